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
import { Publisher } from "./publisher.ts";
import { type EventRow, eventColumns, pageOfEvents } from "./row.ts";
import { Settling } from "./settling.ts";

export interface RelayOptions {
  readonly database: Database;
  readonly broker: Broker;
  readonly feed: Feed;
  /** About how many changes the Redis stream keeps; 0: there is no stream. */
  readonly streamLength: number;
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

/** Another process takes over this long after the holder died, at the latest after one more look. */
const leaseMs = 3_000;

/** How often the holder looks for what others committed, and the others for a free lease. */
const lookEveryMs = 250;

/** Commits that come close together are published together. */
const gatherMs = 1;

const retryMs = { least: 50, most: 1_000 };

const untilThen = `clock_timestamp() + interval '${leaseMs} milliseconds'`;

const take = `
  update relays set
    holder = $1::text::uuid, expires_at = ${untilThen}, token = token + (holder <> $1::text::uuid)::int
  where name = 'redis' and (expires_at < clock_timestamp() or holder = $1::text::uuid)
  returning token::text, position::float8, settled::float8, pending::text`;

const isHolder = "name = 'redis' and holder = $1::text::uuid and token = $2::text::bigint";

/*
 * Ticks off, renews and reads on in one round trip. No row: the lease is another's. A lost tick only means that a batch
 * is settled and published again, so the commit need not wait for the disk.
 */
const advance = `
  with quick as (select set_config('synchronous_commit', 'off', true)), turn as (
    update relays set position = $3::text::bigint, settled = $4::text::bigint, pending = $5::text::int8multirange,
      expires_at = ${untilThen}
    from quick
    where ${isHolder}
    returning pending
  )
  select e.* from turn left join lateral (
    (
      select false as late, ${eventColumns("e")}
      from (${pageOfEvents("position > $4::text::bigint and not position <@ turn.pending", "position", 500)}) e
    ) union all (
      select true, ${eventColumns("e")}
      from unnest(turn.pending) passed join events e on e.position >= lower(passed) and e.position < upper(passed)
    )
  ) e on true`;

const handOn = `
  update relays set position = $3::text::bigint, settled = $4::text::bigint, pending = $5::text::int8multirange,
    expires_at = clock_timestamp()
  where ${isHolder}`;

/** Whoever has written an event and not committed yet holds this lock until its transaction ends. */
const writers = `select virtualtransaction as id from pg_locks
  where locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock'
    and database = (select oid from pg_database where datname = current_database())`;

/** What one holder of the lease does, from taking it to losing it. */
interface Turn {
  readonly token: string;
  readonly settling: Settling;
  readonly publisher: Publisher;
  /** Until when the lease holds for certain, by this process's clock. */
  leasedUntil: number;
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
  #rest = new AbortController();
  #stopAt = Number.POSITIVE_INFINITY;
  /** Whether everything that the last look found is settled. */
  #seenAll = false;
  #nudging = false;
  #writersSeenAt = 0;

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
    // Each abort() makes an exception with its stack, the repeated ones for nothing.
    if (!this.#rest.signal.aborted) this.#rest.abort();
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
    await sleep(isStopping ? gatherMs * 5 : ms, undefined, { signal: this.#rest.signal }).catch(() => {});
    await sleep(gatherMs);
    this.#rest = new AbortController();
  }

  /** @returns whether there is more to do at once */
  async #standBy(): Promise<boolean> {
    const { database, feed, broker, streamLength, onError, takesTurns } = this.#options;
    if (!takesTurns) return false;
    const askedAt = performance.now();
    const [lease] = await database.query<{ token: string; position: number; settled: number; pending: string }>(take, [
      this.#holder,
    ]);
    if (lease === undefined) return false;
    feed.lead(lease.settled);
    const turn: Turn = {
      token: lease.token,
      settling: new Settling(lease.settled, lease.pending),
      leasedUntil: askedAt + leaseMs,
      told: lease.settled,
      publisher: new Publisher(lease.position, {
        feed,
        broker,
        streamLength,
        mayPublish: () => performance.now() < turn.leasedUntil,
        // Ticked off at once, so that little comes twice when this process dies.
        onProgress: () => this.#wake(),
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
    const askedAt = performance.now();
    const rows = await database.query<EventRow & { late: boolean | null }>(advance, this.#progress(turn));
    if (rows.length === 0) {
      await this.#lose(turn);
      return true;
    }
    turn.leasedUntil = askedAt + leaseMs;
    // Only now is it written: whoever looked earlier would find nothing.
    if (settling.settled > turn.told) broker.nudge("settled");
    turn.told = settling.settled;
    const late = rows.filter((row) => row.late === true).map((row) => row.position);
    if (late.length > 0) {
      // What was read beside them may be of the same sessions, and belong behind them.
      await readmit(database, { holder: this.#holder, token: turn.token }, late);
      return true;
    }
    settling.forget();
    const read = rows.filter((row) => row.late === false);
    const settled = settling.accept(read);
    feed.append(settled, settling.settled);
    this.#seenAll = read.length === settled.length;
    await this.#lookForWriters(settling);
    if (settled.length === 0 && read.length > 0) await sleep(gatherMs * 2);
    return read.length > 0;
  }

  /** Asked at once while something waits for the answer; for what was passed by there is time. */
  async #lookForWriters(settling: Settling): Promise<void> {
    if (!settling.needsWriters) return;
    if (this.#seenAll && performance.now() - this.#writersSeenAt < lookEveryMs) return;
    const atWork = await this.#options.database.query<{ id: string }>(writers);
    settling.observe(new Set(atWork.map((row) => row.id)));
    this.#writersSeenAt = performance.now();
  }

  #progress({ token, settling, publisher }: Turn): (string | number)[] {
    return [this.#holder, token, publisher.position, settling.settled, settling.pending];
  }

  async #lose(turn: Turn): Promise<void> {
    this.#turn = undefined;
    this.#options.feed.stopLeading();
    // What it has under way ends by itself, soon; nobody needs to wait for a Redis that hangs.
    await Promise.race([turn.publisher.stop(), sleep(500)]);
  }

  async #handOn(): Promise<void> {
    const turn = this.#turn;
    if (turn === undefined) return;
    await this.#lose(turn);
    await this.#options.database.query(handOn, this.#progress(turn)).catch(() => {});
  }
}
