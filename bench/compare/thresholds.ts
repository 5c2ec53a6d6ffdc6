/** What the comparison must show, as ratios to the control in one run: the one place that says it. */

import type { Operation } from "../load.ts";
import type { Cell } from "./results.ts";

interface Targets {
  /** p50 at 1 connection: at most. */
  readonly 1: number;
  /** Requests a second at 32 connections: at least. */
  readonly 32: number;
  /** The same at 256. */
  readonly 256: number;
}

const targets: Readonly<Partial<Record<Operation, Targets>>> = {
  create: { 1: 1.25, 32: 1.2, 256: 1.5 },
  get: { 1: 1.15, 32: 1.4, 256: 1.8 },
  patch: { 1: 1.35, 32: 1.0, 256: 1.3 },
  heartbeat: { 1: 1.15, 32: 1.3, 256: 1.8 },
  list: { 1: 1.2, 32: 0.9, 256: 0.9 },
};

/** At 32 connections: at most. */
const p99At32 = 1.5;

/** With coalescing switched off, requests a second at 32 connections: at least. */
const targetsOff: Readonly<Partial<Record<Operation, number>>> = {
  create: 0.7,
  patch: 0.7,
  heartbeat: 0.7,
  get: 0.9,
  list: 0.9,
};

export interface Verdict {
  readonly name: string;
  readonly holds: boolean;
  /** What was expected, and what came. */
  readonly expectation: string;
}

/** What the cell was to be; nothing where it has no target. */
export function verdictsOf(cell: Cell): Verdict[] {
  const { operation, connections, side, ratio, p99Ratio } = cell;
  const name = `${operation} at ${connections}${side === "off" ? ", coalescing off" : ""}`;
  if (side === "off") {
    const target = connections === 32 ? targetsOff[operation] : undefined;
    return target === undefined ? [] : [atLeast(name, ratio.median, target)];
  }
  const wanted = targets[operation];
  if (wanted === undefined) return [];
  switch (connections) {
    case 1:
      return [atMost(`${name}, p50`, ratio.median, wanted[1])];
    case 32:
      return [atLeast(name, ratio.median, wanted[32]), atMost(`${name}, p99`, p99Ratio.median, p99At32)];
    case 256:
      return [atLeast(name, ratio.median, wanted[256])];
    default:
      return [];
  }
}

function atLeast(name: string, value: number, target: number): Verdict {
  return { name, holds: value >= target, expectation: `${value.toFixed(2)} of at least ${target.toFixed(2)}` };
}

function atMost(name: string, value: number, target: number): Verdict {
  return { name, holds: value <= target, expectation: `${value.toFixed(2)} of at most ${target.toFixed(2)}` };
}
