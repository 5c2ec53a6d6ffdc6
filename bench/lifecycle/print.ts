/** How the parts of the benchmark print what they measured. */

export function title(text: string): void {
  console.log(`\n${text}\n`);
}

export function line(name: string, ...cells: readonly string[]): void {
  console.log([name.padEnd(31), ...cells.map((cell) => cell.padEnd(24))].join("  ").trimEnd());
}

export function ms(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

export function verdict(name: string, holds: boolean, expectation: string): void {
  console.log(`${holds ? "ok    " : "MISSED"}  ${name}: ${expectation}`);
}
