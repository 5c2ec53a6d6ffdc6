/** What the rounds of an operation say: the ratios, taken within each round, and the middle of everything else. */

import { median, noise } from "../figures.ts";
import type { Operation } from "../load.ts";
import type { Figures, Round } from "./measure.ts";
import type { SideName } from "./sides.ts";

export interface Ratio {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export interface Cell {
  readonly operation: Operation;
  readonly connections: number;
  readonly side: Exclude<SideName, "control">;
  /** What the ratio is of: latency, of which less is better, or requests a second, of which more is. */
  readonly of: "p50" | "throughput";
  readonly ratio: Ratio;
  readonly p99Ratio: Ratio;
  /** Medians. */
  readonly own: Figures;
  readonly control: Figures;
  /** Half of how far the control's rounds differ, in percent. */
  readonly noise: number;
  readonly rounds: readonly { readonly own: Figures; readonly control: Figures }[];
}

/** One connection waits for each answer before it asks again: what it tells is how long that takes. */
export function ratioIsOf(connections: number): Cell["of"] {
  return connections === 1 ? "p50" : "throughput";
}

/** @returns undefined where the side was not measured */
export function cellOf(
  operation: Operation,
  connections: number,
  side: Cell["side"],
  measured: readonly Round[],
): Cell | undefined {
  const rounds = measured.flatMap(({ [side]: own, control }) =>
    own === undefined || control === undefined ? [] : [{ own, control }],
  );
  if (rounds.length === 0) return undefined;
  const of = ratioIsOf(connections);
  const key = of === "p50" ? "p50Ms" : "perSecond";
  return {
    operation,
    connections,
    side,
    of,
    ratio: ratioOf(rounds.map(({ own, control }) => own[key] / control[key])),
    p99Ratio: ratioOf(rounds.map(({ own, control }) => own.p99Ms / control.p99Ms)),
    own: middle(rounds.map(({ own }) => own)),
    control: middle(rounds.map(({ control }) => control)),
    noise: noise(rounds.map(({ control }) => control[key])),
    rounds,
  };
}

function ratioOf(ratios: readonly number[]): Ratio {
  return { median: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
}

function middle(all: readonly Figures[]): Figures {
  const of = (key: keyof Figures) => median(all.map((figures) => figures[key]));
  return {
    perSecond: of("perSecond"),
    p50Ms: of("p50Ms"),
    p99Ms: of("p99Ms"),
    errors: of("errors"),
    requests: of("requests"),
    nodeUs: of("nodeUs"),
    postgresUs: of("postgresUs"),
    behind: of("behind"),
  };
}
