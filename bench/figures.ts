/** What rounds say together: their middle, their edges, and how far they differ. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const { length } = sorted;
  return ((sorted[(length - 1) >> 1] ?? 0) + (sorted[length >> 1] ?? 0)) / 2;
}

/** The least value that so large a share of them does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(Math.ceil(sorted.length * share) - 1, 0)] ?? 0;
}

export function spread(values: readonly number[], text: (value: number) => string): string {
  return `${text(Math.min(...values))} to ${text(Math.max(...values))}`;
}

/** Half the spread of the rounds, in percent of their median. */
export function noise(values: readonly number[]): number {
  return Math.round(((Math.max(...values) - Math.min(...values)) / 2 / median(values)) * 100);
}
