/**
 * The road from the database to Redis: committed events are read in the order of their positions, published, and
 * ticked off. One process at a time does this, under a lease; the others stand by.
 *
 *   stand by ──lease is free──► read after `position` ──► publish ──► move `position` on, renew the lease ──► read …
 *      ▲                                                                       │
 *      └────────────────────────── the lease is another's ◄────────────────────┘
 *
 * Published at least once: after a crash, what was published since the last tick is published again. In order for each
 * session: its positions grow with its sequence, and they are published in order.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { v4 } from "uuid";
import type { Database } from "../db/client.ts";
import type { Broker } from "./broker.ts";
import { changesChannel } from "./envelope.ts";
import { type EventRow, envelopeText, eventColumns } from "./row.ts";

export interface RelayOptions {
  readonly database: Database;
  readonly broker: Broker;
  readonly onError: (error: unknown) => void;
}

export interface Relay {
  /** Says that an event has been committed: it is published at once instead of at the next look. */
  wake(): void;
  /** Publishes what is committed, for at most so long, and hands the lease on. */
  stop(withinMs: number): Promise<void>;
}

const relayName = "redis";
const batchSize = 500;

/** Another process takes over this long after the holder died, at the latest after one more look. */
const leaseSeconds = 3;

/** How often the holder looks for what others committed, and the others for a free lease. */
const lookEveryMs = 500;

/** Commits that come close together are published together. */
const gatherMs = 1;

const retryMs = { least: 50, most: 1_000 };

const take = `
  insert into relays as r (name, holder, expires_at)
  values ($1, $2::text::uuid, clock_timestamp() + interval '${leaseSeconds} seconds')
  on conflict (name) do update
    set holder = excluded.holder, token = r.token + 1, expires_at = excluded.expires_at
    where r.expires_at < clock_timestamp() or r.holder = excluded.holder
  returning token::text, position::text`;

/*
 * Ticks off, renews and reads on in one round trip. No row: the lease is another's. A lost tick only means that a batch
 * is published twice, so the commit need not wait for the disk.
 */
const advance = `
  with quick as (select set_config('synchronous_commit', 'off', true)), turn as (
    update relays set position = $4::text::bigint, expires_at = clock_timestamp() + interval '${leaseSeconds} seconds'
    from quick
    where name = $1 and holder = $2::text::uuid and token = $3::text::bigint
    returning 1
  )
  select ${eventColumns("e")}
  from turn left join lateral (
    select * from events where events.position > $4::text::bigint order by events.position limit ${batchSize}
  ) e on true`;

const handOn = `update relays set expires_at = clock_timestamp()
  where name = $1 and holder = $2::text::uuid and token = $3::text::bigint`;

/** Whoever has written an event and not committed yet holds this lock until its transaction ends. */
const writers = `select virtualtransaction as id from pg_locks
  where locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock'
    and database = (select oid from pg_database where datname = current_database())`;

/** Positions below `below` are missing; they may yet appear while one of `writers` is at work. */
interface Gap {
  readonly below: number;
  readonly writers: ReadonlySet<string>;
}

/** Starts the relay; it runs until it is stopped. */
export function startRelay(options: RelayOptions): Relay {
  return new LeasedRelay(options);
}

class LeasedRelay implements Relay {
  readonly #options: RelayOptions;
  readonly #holder = v4();
  readonly #running: Promise<void>;
  #token: string | undefined;
  #position = 0;
  #gap: Gap | undefined;
  #rest = new AbortController();
  #stopAt = Number.POSITIVE_INFINITY;

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  wake(): void {
    // Each abort() makes an exception with its stack, the repeated ones for nothing.
    if (!this.#rest.signal.aborted) this.#rest.abort();
  }

  async stop(withinMs: number): Promise<void> {
    this.#stopAt = performance.now() + withinMs;
    this.wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    for (;;) {
      const stopping = performance.now() > this.#stopAt || (this.#isStopping && this.#token === undefined);
      if (stopping) break;
      try {
        const more = this.#token === undefined ? await this.#standBy() : await this.#publishNext();
        failures = 0;
        if (!more && this.#isStopping) break;
        if (!more) await this.#sleep(lookEveryMs);
      } catch (error) {
        // The database or Redis is away. Nothing is lost by waiting: the events are in the table.
        if (failures++ === 0) this.#options.onError(error);
        await sleep(Math.min(retryMs.least * 2 ** failures, retryMs.most));
      }
    }
    await this.#handOn();
  }

  get #isStopping(): boolean {
    return this.#stopAt < Number.POSITIVE_INFINITY;
  }

  /** Sleeps until it is woken, or has been since the last look; else so long. */
  async #sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#rest.signal }).catch(() => {});
    await sleep(gatherMs);
    this.#rest = new AbortController();
  }

  /** @returns whether there is more to do at once */
  async #standBy(): Promise<boolean> {
    const [lease] = await this.#options.database.query<{ token: string; position: string }>(take, [
      relayName,
      this.#holder,
    ]);
    if (lease === undefined) return false;
    this.#token = lease.token;
    this.#position = Number(lease.position);
    this.#gap = undefined;
    return true;
  }

  /** @returns whether there is more to do at once */
  async #publishNext(): Promise<boolean> {
    const { database, broker } = this.#options;
    const rows = await database.query<EventRow>(advance, [relayName, this.#holder, this.#token ?? "0", this.#position]);
    if (rows.length === 0) {
      this.#token = undefined;
      return false;
    }
    const events = rows.filter((row) => row.position !== null);
    if (events.length === 0) return false;
    const settled = this.#settled(events);
    if (settled.length === 0) {
      await this.#watchGap(events[0]?.position ?? 0);
      return true;
    }
    await broker.publish(settled.map((event) => ({ channel: changesChannel, message: envelopeText(event) })));
    this.#position = settled.at(-1)?.position ?? this.#position;
    return true;
  }

  /**
   * The first of the events, up to where a position is missing: its transaction may still commit, and a later look would
   * pass it by. A gap that nobody can fill any more is passed over.
   */
  #settled(events: readonly EventRow[]): readonly EventRow[] {
    let expected = this.#position + 1;
    const first = events[0]?.position;
    if (first !== undefined && this.#gap?.below === first && this.#gap.writers.size === 0) expected = first;
    const missing = events.findIndex((event, at) => event.position !== expected + at);
    return missing < 0 ? events : events.slice(0, missing);
  }

  /**
   * Whoever drew a missing position was at work when the gap was first seen. Once all who were at work then have ended,
   * the next look is the last word on it.
   */
  async #watchGap(below: number): Promise<void> {
    const rows = await this.#options.database.query<{ id: string }>(writers);
    const now = new Set(rows.map((row) => row.id));
    const before = this.#gap?.below === below ? this.#gap.writers : now;
    this.#gap = { below, writers: new Set([...before].filter((writer) => now.has(writer))) };
    if (this.#gap.writers.size > 0) await sleep(gatherMs);
  }

  async #handOn(): Promise<void> {
    if (this.#token === undefined) return;
    await this.#options.database.query(handOn, [relayName, this.#holder, this.#token]).catch(() => {});
  }
}
