/**
 * Putting committed events in order. Positions are drawn before their transactions commit, so they become visible out
 * of order: a reader that remembered the highest one it saw would pass by a late one.
 *
 *   1 2 3 _ 5 6      3 is settled; 4 is missing, and may yet come: whoever drew it holds a lock until its commit is visible
 *         │
 *         ├─ comes ───────────────────────────► settled in its place
 *         ├─ all who were at work have ended ─► never comes: passed over
 *         └─ its writer stays open too long ──► passed by, and remembered as pending: should it come after all, it is
 *                                               given a new place at the end (see latecomers.ts)
 *
 * So one long transaction holds up its own events and nobody else's. Knows no SQL: it is told what was read.
 */

import type { EventRow } from "./row.ts";

/** Positions [from, to) that nobody has seen. */
interface Gap {
  readonly from: number;
  readonly to: number;
  /** Who was at work when it was first seen and is still; undefined: nobody has looked yet. */
  writers: ReadonlySet<string> | undefined;
  readonly since: number;
}

/** Transactions of the service take milliseconds, at the worst 2.5 s; this is for those that a person left open. */
const patienceMs = 500;

export class Settling {
  #settled: number;
  #gap: Gap | undefined;
  #pending: Gap[];

  /** @param pending as `pending` gives it */
  constructor(settled: number, pending: string, now = performance.now()) {
    this.#settled = settled;
    this.#pending = [...pending.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) => ({
      from: Number(from),
      to: Number(to),
      writers: undefined,
      since: now,
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

  /** Whether it must be known who is at work: there are positions that may still come. */
  get needsWriters(): boolean {
    return this.#gap !== undefined || this.#pending.length > 0;
  }

  /**
   * Takes events that were read, in the order of their positions, and nothing left out between them.
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
    const gap =
      known?.from === from && to <= known.to ? { ...known, to } : { from, to, writers: undefined, since: now };
    this.#gap = gap;
    if (gap.writers?.size === 0) return true;
    // It is left behind once that has been written down: whoever takes over must know of it.
    if (gap.writers !== undefined && now - gap.since >= patienceMs) this.#pending.push(gap);
    return false;
  }

  /**
   * Who has written an event and not ended yet, as it was after the last read. Whoever drew a missing position was among
   * them when it was first missed; those who came later drew later positions.
   */
  observe(atWork: ReadonlySet<string>): void {
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
