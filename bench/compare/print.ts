/** The table of the comparison, a line as soon as it is known. */

import type { Operation } from "../load.ts";
import { scenarios } from "../scenarios.ts";
import type { Cell, Ratio } from "./results.ts";

const widths = [14, 11, 30, 14, 19, 19, 15, 15, 19, 17];

export function printHeader(operations: readonly Operation[]): void {
  for (const operation of operations) {
    const { title, control } = scenarios[operation];
    console.log(`${operation.padEnd(10)} ${title.padEnd(48)} the control: ${control}`);
  }
  console.log();
  line([
    "",
    "connections",
    "ratio",
    "p99's",
    "service/s",
    "control/s",
    "service p50/p99",
    "control p50/p99",
    "CPU µs node+pg",
    "control's",
  ]);
}

/** @param moved how the ratio differs from the one in the baseline, if there is one */
export function printCell(cell: Cell, moved: string): void {
  const { own, control } = cell;
  const name = cell.side === "off" ? `${cell.operation}, off` : cell.operation;
  line([
    name,
    String(cell.connections),
    `${cell.of === "p50" ? "p50 " : ""}${ratioText(cell.ratio)}`,
    ratioText(cell.p99Ratio),
    `${Math.round(own.perSecond)}`,
    `${Math.round(control.perSecond)} ±${cell.noise} %`,
    `${ms(own.p50Ms)}/${ms(own.p99Ms)}`,
    `${ms(control.p50Ms)}/${ms(control.p99Ms)}`,
    `${Math.round(own.nodeUs)}+${Math.round(own.postgresUs)}`,
    `${Math.round(control.nodeUs)}+${Math.round(control.postgresUs)}`,
    own.behind > 0 ? `${Math.round(own.behind)} events behind` : "",
    moved,
  ]);
}

function ratioText({ median, low, high }: Ratio): string {
  return `${median.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})`;
}

function ms(value: number): string {
  return value < 10 ? value.toFixed(2) : value.toFixed(0);
}

function line(cells: readonly string[]): void {
  console.log(
    cells
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
