/**
 * What the holder of the lease does, step by step, from taking it to losing it:
 *
 *   tick, when it is due ──► look ──► let latecomers in ──► settle ──► tell the feed ──► …
 *                                                                 └──► publish, at its own pace
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../db/client.ts";
import type { Broker } from "./broker.ts";
import type { Feed } from "./feed.ts";
import { findLate, readmit } from "./latecomers.ts";
import { type Lease, leaseMs, look, type Progress, tick, writersAtWork } from "./lease.ts";
import { Publisher } from "./publisher.ts";
import type { EventRow } from "./row.ts";
import { Settling } from "./settling.ts";

export interface TurnOptions {
  readonly database: Database;
  readonly broker: Broker;
  readonly feed: Feed;
  readonly lease: Lease & Progress;
  /** Until when the lease holds for certain, by this process's clock. */
  readonly leasedUntil: number;
  /** Asks for a step within so long. */
  readonly stepWithin: (ms: number) => void;
  readonly onError: (error: unknown) => void;
}

/**
 * How often the progress is written down. Each time makes a version of the one row, which stays for as long as anybody
 * has an older snapshot: a dump that takes an hour.
 */
const tickEveryMs = 100;

/** The lease is renewed in time for a second try. */
const renewEveryMs = 1_000;

/**
 * How soon it looks again while it waits for a gap to be filled. While much is written there always is one: whoever looks
 * at once, again and again, takes more from the database than the writers do.
 */
const lookAgainMs = 3;

/** How often it looks who is at work, when nothing waits for the answer. */
const lookForWritersEveryMs = 250;

export class Turn {
  readonly #options: TurnOptions;
  readonly #lease: Lease;
  readonly #settling: Settling;
  readonly #publisher: Publisher;
  #leasedUntil: number;
  /** What is written down, and when that was. */
  #written: Progress;
  #tickedAt = performance.now();
  /** How many events to read next; undefined: the usual number. */
  #pageSize: number | undefined;
  #writersSeenAt = 0;
  /** Whether everything that the last look found is settled. */
  #hasSeenAll = false;

  constructor(options: TurnOptions) {
    const { lease, feed, broker, onError } = options;
    this.#options = options;
    this.#lease = lease;
    this.#written = lease;
    this.#leasedUntil = options.leasedUntil;
    this.#settling = new Settling(lease.settled, lease.pending);
    feed.lead(lease.settled);
    this.#publisher = new Publisher(lease.published, {
      feed,
      broker,
      mayPublish: () => this.#holds(),
      onProgress: () => this.#tickSoon(),
      onError,
    });
  }

  /** Whether all that the last look found is settled and published. */
  get isDone(): boolean {
    return this.#hasSeenAll && this.#publisher.position >= this.#settling.settled;
  }

  /** Every event up to here is settled. */
  get settled(): number {
    return this.#settling.settled;
  }

  /** From now on `isDone` tells of a look that is yet to come. */
  lookAnew(): void {
    this.#hasSeenAll = false;
  }

  /** @returns whether there is more to do at once; undefined when the lease is another's */
  async step(): Promise<boolean | undefined> {
    const { database, feed, stepWithin } = this.#options;
    const settling = this.#settling;
    if ((this.#mustTick() || !this.#holds()) && !(await this.#tick())) return undefined;
    const { events, next } = await look(database, settling, this.#pageSize);
    // Whoever was frozen meanwhile finds out whether it still has its turn.
    if (!this.#holds()) return true;
    this.#pageSize = next;
    if (settling.hasPending && !(await this.#letIn(events))) return true;
    const settled = settling.accept(events);
    feed.append(settled, settling.settled);
    this.#hasSeenAll = settled.length === events.length;
    await this.#lookForWriters();
    this.#tickSoon();
    if (!this.#hasSeenAll) stepWithin(lookAgainMs);
    return next !== undefined;
  }

  /** Stops publishing; what is under way ends by itself, soon, and nobody needs to wait for a Redis that hangs. */
  async end(): Promise<void> {
    this.#options.feed.stopLeading();
    await Promise.race([this.#publisher.stop(), sleep(500)]);
  }

  /** Writes down how far it has come, and lets another process take over at once. To be called after `end`. */
  async handOn(): Promise<void> {
    await tick(this.#options.database, this.#lease, this.#progress, "end");
  }

  get #progress(): Progress {
    const { settled, pending } = this.#settling;
    return { published: this.#publisher.position, settled, pending };
  }

  #holds(): boolean {
    return performance.now() < this.#leasedUntil;
  }

  /** Whether anything is to be written down now: what is passed by must be, before it is left behind. */
  #mustTick(): boolean {
    const { settled, pending } = this.#settling;
    if (pending !== this.#written.pending) return true;
    const since = performance.now() - this.#tickedAt;
    if (since >= renewEveryMs) return true;
    const isWritten = settled === this.#written.settled && this.#publisher.position === this.#written.published;
    return !isWritten && since >= tickEveryMs;
  }

  #tickSoon(): void {
    const { settled, pending } = this.#settling;
    const isSettledWritten = settled === this.#written.settled && pending === this.#written.pending;
    if (isSettledWritten && this.#publisher.position === this.#written.published) return;
    this.#options.stepWithin(Math.max(0, this.#tickedAt + tickEveryMs - performance.now()));
  }

  /** @returns whether the lease is still held */
  async #tick(): Promise<boolean> {
    const { database, broker } = this.#options;
    const progress = this.#progress;
    const askedAt = performance.now();
    if (!(await tick(database, this.#lease, progress, "renew"))) return false;
    this.#leasedUntil = askedAt + leaseMs;
    this.#tickedAt = askedAt;
    // Only now is it written: whoever looked earlier would find nothing.
    if (progress.settled > this.#written.settled) broker.nudge("settled");
    this.#written = progress;
    return true;
  }

  /**
   * Gives latecomers their new places. They are looked for after the events were read: of a session whose next event was
   * seen, an earlier one is seen too.
   *
   * @returns whether what was read may be settled
   */
  async #letIn(read: readonly EventRow[]): Promise<boolean> {
    const { database } = this.#options;
    const late = await findLate(database, this.#settling.pending);
    if (late.sessions.length === 0) {
      this.#settling.forget();
      return true;
    }
    const moved = await readmit(database, this.#lease, this.#settling, late.sessions);
    if (moved.length > 0) return false;
    if (!late.areAll) {
      await sleep(lookForWritersEveryMs);
      return false;
    }
    // Somebody is changing them: only what belongs behind them has to wait.
    const waiting = new Set(late.sessions.map(({ id }) => id));
    const behind = read.filter((event) => waiting.has(event.session_id)).map(({ position }) => position);
    this.#settling.postpone(behind);
    return behind.length === 0;
  }

  /** Asked at once while something waits for the answer; for what was passed by there is time. */
  async #lookForWriters(): Promise<void> {
    if (!this.#settling.needsWriters) return;
    if (this.#hasSeenAll && performance.now() - this.#writersSeenAt < lookForWritersEveryMs) return;
    this.#settling.observe(await writersAtWork(this.#options.database));
    this.#writersSeenAt = performance.now();
  }
}
