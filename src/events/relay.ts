/**
 * The relay: one process at a time puts committed events in order (settling.ts), tells its own readers (feed.ts), and
 * publishes to Redis (publisher.ts). It does so under a lease; the others stand by.
 *
 *   stand by ──lease is free──► read after `settled` ──► settle, tell the feed ──► tick, renew the lease, read on …
 *      ▲                                                        │        └─► publish, at its own pace
 *      └───────────────────── the lease is another's ◄──────────┘
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
import { readmit } from "./latecomers.ts";
import { advance, handOn, type Lease, leaseMs, type Progress, takeLease, writersAtWork } from "./lease.ts";
import { Publisher } from "./publisher.ts";
import { Settling } from "./settling.ts";

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

/** A commit that is another process's to publish is told to it after this long, with those that come meanwhile. */
const gatherMs = 1;

/** How soon it looks again while it waits for a gap to be filled, or for the last to be published. */
const lookAgainMs = 3;

/** How soon what is published is ticked off, when there is nothing more to publish. */
const tickMs = 10;

const retryMs = { least: 50, most: 1_000 };

/** What one holder of the lease does, from taking it to losing it. */
interface Turn {
  readonly token: string;
  readonly settling: Settling;
  readonly publisher: Publisher;
  /** Until when the lease holds for certain, by this process's clock. */
  leasedUntil: number;
  /** How many events to read next; undefined: the usual number. */
  pageSize: number | undefined;
  /** Up to here the other processes have been told to look. */
  told: number;
}

/** Starts the relay; it runs until it is stopped. */
export function startRelay(options: RelayOptions): Relay {
  return new LeasedRelay(options);
}

class LeasedRelay implements Relay {
  readonly #options: RelayOptions;
  readonly #holder = v4();
  readonly #running: Promise<void>;
  #turn: Turn | undefined;
  /** Whether it was woken since the last look. */
  #isWoken = false;
  #endSleep: (() => void) | undefined;
  #stopAt = Number.POSITIVE_INFINITY;
  /** Whether everything that the last look found is settled. */
  #seenAll = false;
  #nudging = false;
  #writersSeenAt = 0;
  #tick: NodeJS.Timeout | undefined;

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
    this.#seenAll = false;
    this.#wake();
    await this.#running;
  }

  #wake(): void {
    this.#isWoken = true;
    this.#endSleep?.();
  }

  /** The next turn ticks off what is published; without one, so that little comes twice when this process dies. */
  #tickSoon(): void {
    this.#tick ??= setTimeout(() => this.#wake(), tickMs);
  }

  /** The holder is another process; of the commits of a millisecond it is told once. */
  #nudgeHolder(): void {
    if (this.#nudging) return;
    this.#nudging = true;
    setTimeout(() => {
      this.#nudging = false;
      this.#options.broker.nudge("committed");
    }, gatherMs).unref();
  }

  async #run(): Promise<void> {
    for (let failures = 0; !this.#isDone(); ) {
      try {
        const more = this.#turn === undefined ? await this.#standBy() : await this.#goOn(this.#turn);
        failures = 0;
        if (!more) await this.#sleep(lookEveryMs);
      } catch (error) {
        // The database is away. Nothing is lost by waiting: the events are in the table.
        if (failures++ === 0) this.#options.onError(error);
        await sleep(Math.min(retryMs.least * 2 ** failures, retryMs.most));
      }
    }
    await this.#handOn();
  }

  /** Stopping, everything that could be seen is published, or the time is up. */
  #isDone(): boolean {
    if (this.#stopAt === Number.POSITIVE_INFINITY) return false;
    const turn = this.#turn;
    if (turn === undefined || performance.now() > this.#stopAt) return true;
    return this.#seenAll && turn.publisher.position >= turn.settling.settled;
  }

  /** Sleeps until it is woken, or has been since the last look; else so long. */
  async #sleep(ms: number): Promise<void> {
    const isStopping = this.#stopAt < Number.POSITIVE_INFINITY;
    if (!this.#isWoken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, isStopping ? lookAgainMs : ms);
        this.#endSleep = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#endSleep = undefined;
    this.#isWoken = false;
  }

  /** @returns whether there is more to do at once */
  async #standBy(): Promise<boolean> {
    const { database, feed, broker, onError, takesTurns } = this.#options;
    if (!takesTurns) return false;
    const askedAt = performance.now();
    const lease = await takeLease(database, this.#holder);
    if (lease === undefined) return false;
    feed.lead(lease.settled);
    const turn: Turn = {
      token: lease.token,
      settling: new Settling(lease.settled, lease.pending),
      leasedUntil: askedAt + leaseMs,
      pageSize: undefined,
      told: lease.settled,
      publisher: new Publisher(lease.published, {
        feed,
        broker,
        mayPublish: () => performance.now() < turn.leasedUntil,
        onProgress: () => this.#tickSoon(),
        onError,
      }),
    };
    this.#turn = turn;
    return true;
  }

  /** @returns whether there is more to do at once */
  async #goOn(turn: Turn): Promise<boolean> {
    const { database, feed, broker } = this.#options;
    const { settling } = turn;
    clearTimeout(this.#tick);
    this.#tick = undefined;
    const askedAt = performance.now();
    const found = await advance(database, this.#lease(turn), progressOf(turn), turn.pageSize);
    if (found === undefined) {
      await this.#lose(turn);
      return true;
    }
    turn.leasedUntil = askedAt + leaseMs;
    // Only now is it written: whoever looked earlier would find nothing.
    if (settling.settled > turn.told) broker.nudge("settled");
    turn.told = settling.settled;
    const { events: read, late } = found;
    turn.pageSize = found.next;
    if (late.length > 0) {
      // What was read beside them may be of the same sessions, and belong behind them.
      await readmit(database, this.#lease(turn), late);
      return true;
    }
    settling.forget();
    const settled = settling.accept(read);
    feed.append(settled, settling.settled);
    this.#seenAll = read.length === settled.length;
    await this.#lookForWriters(settling);
    if (settled.length === 0 && read.length > 0) await sleep(lookAgainMs);
    if (settled.length > 0) this.#tickSoon();
    return !this.#seenAll || found.next !== undefined;
  }

  /** Asked at once while something waits for the answer; for what was passed by there is time. */
  async #lookForWriters(settling: Settling): Promise<void> {
    if (!settling.needsWriters) return;
    if (this.#seenAll && performance.now() - this.#writersSeenAt < lookEveryMs) return;
    settling.observe(await writersAtWork(this.#options.database));
    this.#writersSeenAt = performance.now();
  }

  #lease({ token }: Turn): Lease {
    return { holder: this.#holder, token };
  }

  async #lose(turn: Turn): Promise<void> {
    this.#turn = undefined;
    clearTimeout(this.#tick);
    this.#options.feed.stopLeading();
    // What it has under way ends by itself, soon; nobody needs to wait for a Redis that hangs.
    await Promise.race([turn.publisher.stop(), sleep(500)]);
  }

  async #handOn(): Promise<void> {
    const turn = this.#turn;
    if (turn === undefined) return;
    await this.#lose(turn);
    await handOn(this.#options.database, this.#lease(turn), progressOf(turn)).catch(() => {});
  }
}

function progressOf({ settling, publisher }: Turn): Progress {
  return { published: publisher.position, settled: settling.settled, pending: settling.pending };
}
