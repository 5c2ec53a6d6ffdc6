/** The ratios of an earlier run, and how those of this one differ from them. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Cell, Ratio } from "./results.ts";

const file = fileURLToPath(new URL("../baseline.json", import.meta.url));

type Ratios = Readonly<Record<string, Ratio>>;

/** By operation and connections; nothing where there is no baseline yet. */
export function readBaseline(): Ratios {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as { ratios: Ratios }).ratios : {};
}

const keyOf = ({ operation, connections, side, of }: Cell) =>
  `${operation}${side === "off" ? " off" : ""} ${connections} ${of}`;

/** Writes those of the cells in place of the baseline's own; what was not measured now stays. */
export function writeBaseline(cells: readonly Cell[]): void {
  const measured = cells.map((cell): [string, Ratio] => [keyOf(cell), rounded(cell.ratio)]);
  const ratios = { ...readBaseline(), ...Object.fromEntries(measured) };
  writeFileSync(file, `${JSON.stringify({ ratios }, undefined, 2)}\n`);
}

function rounded({ median, low, high }: Ratio): Ratio {
  const round = (value: number) => Math.round(value * 1_000) / 1_000;
  return { median: round(median), low: round(low), high: round(high) };
}

/** How a ratio moved; it has, once neither middle lies within the other's spread. */
export function movement(cell: Cell, baseline: Ratios): string {
  const before = baseline[keyOf(cell)];
  if (before === undefined) return "";
  const { ratio } = cell;
  const isWithin = (value: number, { low, high }: Ratio) => value >= low && value <= high;
  const share = `${before.median.toFixed(2)} → ${ratio.median.toFixed(2)}`;
  if (isWithin(ratio.median, before) || isWithin(before.median, ratio)) return `${share}, within the spread`;
  const isBetter = cell.of === "p50" ? ratio.median < before.median : ratio.median > before.median;
  return `${share}, ${isBetter ? "BETTER" : "WORSE"}`;
}
