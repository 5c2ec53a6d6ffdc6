/**
 * The relay: one process at a time puts committed events in order (settling.ts), tells its own readers (feed.ts), and
 * publishes to Redis (publisher.ts). It does so under a lease; the others stand by.
 *
 *   stand by ──lease is free──► step, sleep until woken, step … (turn.ts)
 *      ▲                          │
 *      └── the lease is another's ┘
 *
 * Published at least once: after a crash, what was published since the last tick is published again. In order for each
 * session: its positions grow with its sequence. Whoever was frozen and thaws publishes no new batch, for its lease ran
 * out by its own clock; what it still had under way comes twice, but no event overtakes another: both started from
 * what all had been published before.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { v4 } from "uuid";
import type { Database } from "../db/client.ts";
import type { Broker } from "./broker.ts";
import type { Feed } from "./feed.ts";
import { leaseMs, takeLease } from "./lease.ts";
import { Turn } from "./turn.ts";

export interface RelayOptions {
  readonly database: Database;
  readonly broker: Broker;
  readonly feed: Feed;
  /** False: this process never takes the lease, and leaves the work to others. */
  readonly takesTurns: boolean;
  readonly onError: (error: unknown) => void;
}

export interface Relay {
  /** Says that an event has been committed: it is published at once instead of at the next look. */
  wake(): void;
  /** Publishes what is committed, for at most so long, and hands the lease on. */
  stop(withinMs: number): Promise<void>;
}

/** How often the holder looks for what others committed, and the others for a free lease. */
const lookEveryMs = 250;

/**
 * And at the most: commits that come close together are settled and published together. Going for each, a look and a
 * publishing cost more than the change itself; of the events of ten milliseconds each costs a fifth of that. So each waits
 * the longer for the others the more there are: 4 ms at 500 a second, 8 at 750.
 */
const apartMs = { least: 2, most: 12, perEventInSecond: 0.016, above: 250 };

/** And while it stops and waits for the last to be published. */
const lookAtEndEveryMs = 5;

/** A commit that is another process's to publish is told to it after this long, with those that come meanwhile. */
const gatherMs = 1;

const retryMs = { least: 50, most: 1_000 };

/** Starts the relay; it runs until it is stopped. */
export function startRelay(options: RelayOptions): Relay {
  return new LeasedRelay(options);
}

class LeasedRelay implements Relay {
  readonly #options: RelayOptions;
  readonly #holder = v4();
  readonly #running: Promise<void>;
  #turn: Turn | undefined;
  #stopAt = Number.POSITIVE_INFINITY;
  /** Whether it was woken since the last look. */
  #isWoken = false;
  #endSleep: (() => void) | undefined;
  #lookedAt = 0;
  /** How long before that it had looked, and what was settled then. */
  #gatheredMs = Number.POSITIVE_INFINITY;
  #settledBefore = 0;
  #alarm: NodeJS.Timeout | undefined;
  #alarmAt = Number.POSITIVE_INFINITY;
  #isNudging = false;

  constructor(options: RelayOptions) {
    this.#options = options;
    options.broker.onNudge((what) => {
      if (what === "settled") options.feed.look();
      else if (this.#turn !== undefined) this.#wake();
    });
    this.#running = this.#run();
  }

  wake(): void {
    if (this.#turn !== undefined) this.#wake();
    else this.#nudgeHolder();
  }

  async stop(withinMs: number): Promise<void> {
    this.#stopAt = performance.now() + withinMs;
    this.#turn?.lookAnew();
    this.#wake();
    await this.#running;
  }

  #wake(): void {
    this.#isWoken = true;
    this.#endSleep?.();
  }

  /** The holder is another process; of the commits of a millisecond it is told once. */
  #nudgeHolder(): void {
    if (this.#isNudging) return;
    this.#isNudging = true;
    setTimeout(() => {
      this.#isNudging = false;
      this.#options.broker.nudge("committed");
    }, gatherMs).unref();
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#isDone(); ) {
      try {
        const more = this.#turn === undefined ? await this.#standBy() : await this.#step(this.#turn);
        failures = 0;
        if (!more) await this.#sleep();
      } catch (error) {
        // The database is away. Nothing is lost by waiting: the events are in the table.
        if (failures++ === 0) this.#options.onError(error);
        await sleep(Math.min(retryMs.least * 2 ** failures, retryMs.most));
      }
    }
    const turn = this.#turn;
    if (turn !== undefined) {
      await this.#end(turn);
      await turn.handOn().catch(() => {});
    }
    clearTimeout(this.#alarm);
  }

  get #isStopping(): boolean {
    return this.#stopAt < Number.POSITIVE_INFINITY;
  }

  /** Stopping, everything that could be seen is published, or the time is up. */
  #isDone(): boolean {
    if (!this.#isStopping) return false;
    return this.#turn === undefined || performance.now() > this.#stopAt || this.#turn.isDone;
  }

  /** Sleeps until it is woken, or has been since the last look; else until the next look. */
  async #sleep(): Promise<void> {
    if (!this.#isWoken) {
      await new Promise<void>((resolve) => {
        this.#endSleep = resolve;
        this.#wakeWithin(this.#isStopping ? lookAtEndEveryMs : lookEveryMs);
      });
    }
    this.#endSleep = undefined;
    const { least, most, perEventInSecond, above } = apartMs;
    const apart = Math.min(Math.max((this.#eventsPerSecond() - above) * perEventInSecond, least), most);
    const early = this.#lookedAt + apart - performance.now();
    if (early > 0) await sleep(early);
    this.#isWoken = false;
    const now = performance.now();
    this.#gatheredMs = now - this.#lookedAt;
    this.#lookedAt = now;
  }

  /** As the last look found them: those that had come since the one before it. */
  #eventsPerSecond(): number {
    const before = this.#settledBefore;
    this.#settledBefore = this.#turn?.settled ?? 0;
    return ((this.#settledBefore - before) / this.#gatheredMs) * 1_000;
  }

  /** The earlier of two alarms stands. */
  #wakeWithin(ms: number): void {
    const at = performance.now() + ms;
    if (at >= this.#alarmAt) return;
    clearTimeout(this.#alarm);
    this.#alarmAt = at;
    this.#alarm = setTimeout(() => {
      this.#alarmAt = Number.POSITIVE_INFINITY;
      this.#wake();
    }, ms);
  }

  /** @returns whether there is more to do at once */
  async #standBy(): Promise<boolean> {
    if (!this.#options.takesTurns) return false;
    const leasedUntil = performance.now() + leaseMs;
    const lease = await takeLease(this.#options.database, this.#holder);
    if (lease === undefined) return false;
    const stepWithin = (ms: number) => this.#wakeWithin(ms);
    this.#turn = new Turn({ ...this.#options, lease, leasedUntil, stepWithin });
    return true;
  }

  /** @returns whether there is more to do at once */
  async #step(turn: Turn): Promise<boolean> {
    const more = await turn.step();
    if (more === undefined) await this.#end(turn);
    return more ?? true;
  }

  async #end(turn: Turn): Promise<void> {
    this.#turn = undefined;
    await turn.end();
  }
}
