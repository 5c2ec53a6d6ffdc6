/**
 * Putting committed events in order. Positions are drawn before their transactions commit, so they become visible out
 * of order: a reader that remembered the highest one it saw would pass by a late one.
 *
 *   1 2 3 _ 5 6      3 is settled; 4 is missing, and may yet come: whoever drew it holds a lock until its commit is visible
 *         │
 *         ├─ comes ───────────────────────────► settled in its place
 *         ├─ all who were at work have ended ─► never comes: passed over
 *         └─ all who are left at work have ───► passed by, and remembered as pending: should it come after all, it is
 *            been so for too long                given a new place at the end (see latecomers.ts)
 *
 * So one long transaction holds up its own events and nobody else's. Knows no SQL: it is told what was read.
 */

import type { EventRow } from "./row.ts";

/** Positions [from, to) that nobody has seen, or that are not to be seen yet. */
interface Gap {
  readonly from: number;
  readonly to: number;
  /** Who was at work when it was first seen and is still; undefined: nobody has looked yet. */
  writers: ReadonlySet<string> | undefined;
}

/** Transactions of the service take milliseconds, at the worst 2.5 s; this is for those that a person left open. */
const patienceMs = 500;

const nobody: ReadonlySet<string> = new Set();

export class Settling {
  #settled: number;
  #gap: Gap | undefined;
  #pending: Gap[];
  /** Since when each writer has been seen at work. */
  #atWork: ReadonlyMap<string, number> = new Map();

  /** @param pending as `pending` gives it */
  constructor(settled: number, pending: string) {
    this.#settled = settled;
    this.#pending = [...pending.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) => ({
      from: Number(from),
      to: Number(to),
      writers: undefined,
    }));
  }

  /** Up to here everything is settled, but for what is pending. */
  get settled(): number {
    return this.#settled;
  }

  /** The positions that were passed by, as PostgreSQL writes an int8multirange. */
  get pending(): string {
    return `{${this.#pending.map(({ from, to }) => `[${from},${to})`).join(",")}}`;
  }

  get hasPending(): boolean {
    return this.#pending.length > 0;
  }

  /** Whether it must be known who is at work: there are positions that may still come. */
  get needsWriters(): boolean {
    return this.#gap !== undefined || this.hasPending;
  }

  /**
   * Takes events that were read, in the order of their positions, with nothing left out between them but what is pending.
   * What was made pending must have been written down before it is left behind: whoever takes over must know of it.
   *
   * @returns those that are settled now, in order
   */
  accept(events: readonly EventRow[], now = performance.now()): readonly EventRow[] {
    const settled: EventRow[] = [];
    for (const event of events) {
      if (event.position !== this.#settled + 1 && !this.#mayPass(event.position, now)) break;
      this.#settled = event.position;
      this.#gap = undefined;
      settled.push(event);
    }
    return settled;
  }

  /** Whether the gap before this position may be left behind: nobody can fill it, or it was passed by before this read. */
  #mayPass(to: number, now: number): boolean {
    const from = this.#settled + 1;
    if (this.#pending.some((passed) => passed.from <= from && to <= passed.to)) return true;
    const known = this.#gap;
    // When it has grown smaller, what came of it is settled in its place.
    const gap = known?.from === from && to <= known.to ? { ...known, to } : { from, to, writers: undefined };
    this.#gap = gap;
    if (gap.writers === undefined) return false;
    if (gap.writers.size === 0) return true;
    const isAnyNew = [...gap.writers].some((writer) => now - (this.#atWork.get(writer) ?? now) < patienceMs);
    if (!isAnyNew) this.#passBy(gap);
    return false;
  }

  /** Leaves positions behind that have events, but whose sessions have events that must come before. */
  postpone(positions: readonly number[]): void {
    for (const position of positions) this.#passBy({ from: position, to: position + 1, writers: nobody });
  }

  /** Neighbours become one: a long transaction leaves many. */
  #passBy(gap: Gap): void {
    const before = this.#pending.findIndex(({ to }) => to === gap.from);
    const neighbour = this.#pending[before];
    if (neighbour === undefined) {
      this.#pending.push(gap);
      return;
    }
    const writers = neighbour.writers && new Set([...neighbour.writers, ...(gap.writers ?? [])]);
    this.#pending[before] = { from: neighbour.from, to: gap.to, writers };
  }

  /**
   * Who has written an event and not ended yet, as it was after the last read. Whoever drew a missing position was among
   * them when it was first missed; those who came later drew later positions.
   */
  observe(atWork: ReadonlySet<string>, now = performance.now()): void {
    this.#atWork = new Map([...atWork].map((writer) => [writer, this.#atWork.get(writer) ?? now]));
    if (this.#gap !== undefined) this.#gap.writers = still(this.#gap.writers, atWork);
    for (const gap of this.#pending) gap.writers = still(gap.writers, atWork);
  }

  /**
   * Pending positions which a read found empty that was made after their last writer had ended, never come.
   * To be called after such a read, before `observe`.
   */
  forget(): void {
    this.#pending = this.#pending.filter(({ writers }) => writers?.size !== 0);
  }
}

function still(before: ReadonlySet<string> | undefined, now: ReadonlySet<string>): ReadonlySet<string> {
  return before === undefined ? now : new Set([...before].filter((writer) => now.has(writer)));
}
