/**
 * The feed: every event in the one order in which all readers see it. A reader replays from where it was, then tails:
 *
 *   after ──► pages from the database ──► what is in memory ──► waits ──► what is in memory …
 *
 * Only what is settled is given: an event whose neighbour may still be committed waits for it (see settling.ts), so a
 * reader that remembers a position and goes on from it misses nothing. The process whose relay has the lease is told
 * what is settled; the others read it from the database while they have readers: at once when Redis says so, else soon.
 */

import type { Database } from "../db/client.ts";
import { RecentEvents } from "./recent.ts";
import { type EventRow, eventColumns, pageOfEvents } from "./row.ts";

/** Events that follow each other in the feed. */
export interface FeedPage {
  readonly events: readonly EventRow[];
  /** Everything up to this position that the reader asked for has been given. */
  readonly upTo: number;
}

export interface FollowOptions {
  /** The position after which to start; undefined: with what is settled from now on. */
  readonly after?: number | undefined;
  /** Only the events of this session. */
  readonly sessionId?: string | undefined;
  readonly signal: AbortSignal;
}

/** How soon a process without the lease sees what is settled, if Redis does not say so. */
const lookEveryMs = 250;

/** How many events a reader is given at once. */
const pageSize = 500;

const readAll = `
  select f.settled::float8 as settled, ${eventColumns("e")}
  from relays f left join lateral (${pageOfEvents(
    "position > $1::text::bigint and position <= f.settled and not position <@ f.pending",
    "position",
    pageSize,
  )}) e on true
  where f.name = 'redis'`;

/* The sequence is that of the last event read, 0 at first: the pages of a long session must not count from its start. */
const readOfSession = `
  select f.settled::float8 as settled, ${eventColumns("e")}
  from relays f left join lateral (${pageOfEvents(
    `namespace = $2 and session_id = $3::text::uuid and sequence > $4 and position > $1::text::bigint
     and position <= f.settled and not position <@ f.pending`,
    "sequence",
    pageSize,
  )}) e on true
  where f.name = 'redis'`;

type Read = EventRow & { readonly settled: number };

type Wake = (from: number) => void;

export interface FeedOptions {
  readonly database: Database;
  readonly onError: (error: unknown) => void;
}

export class Feed {
  readonly #options: FeedOptions;
  /** Undefined: nobody has asked yet. */
  #settled: number | undefined;
  readonly #recent = new RecentEvents();
  /** Those at the tail that wait for any event, and for one of a session. */
  readonly #waitingForAny = new Set<Wake>();
  readonly #waitingForSession = new Map<string, Set<Wake>>();
  #readers = 0;
  /** The lease is here: what is settled is told by `append`. */
  #leads = false;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** Up to where this process knows the feed. */
  get settled(): number {
    return this.#settled ?? 0;
  }

  /** From now on `append` tells what is settled, going on from here. */
  lead(settled: number): void {
    this.#leads = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (settled !== this.#settled) this.#jump(settled);
  }

  /** The lease has gone to another process. */
  stopLeading(): void {
    this.#leads = false;
    if (this.#readers > 0) this.#startLooking();
  }

  /** Events were settled: all that there are after what was settled, up to this position. */
  append(events: readonly EventRow[], upTo: number): void {
    const from = this.settled;
    if (upTo <= from) return;
    this.#settled = upTo;
    this.#recent.add(from, upTo, events);
    if (events.length === 0) return;
    wakeAll(this.#waitingForAny, from);
    if (this.#waitingForSession.size === 0) return;
    for (const { session_id: id } of events) this.#wakeSession(id, from);
  }

  /** Looks for what another process has settled; for when Redis says that there is something. */
  look(): void {
    if (!this.#leads && this.#readers > 0) void this.#look();
  }

  /** Up to where the feed is settled now: following from here misses nothing that is settled later. */
  async now(): Promise<number> {
    return this.#settled ?? (await this.#ask());
  }

  /**
   * Replays from a position, then tails, until the signal is given. Nothing is skipped, nothing comes twice. A database
   * that is away is waited for while tailing; while replaying, its error is thrown.
   */
  async *follow({ after, sessionId, signal }: FollowOptions): AsyncGenerator<FeedPage, void, void> {
    let wake: Wake | undefined;
    const stop = () => wake?.(Number.POSITIVE_INFINITY);
    signal.addEventListener("abort", stop);
    this.#join();
    try {
      if (this.#settled === undefined) await this.#lookNow();
      let position = after ?? this.settled;
      let sequence = 0;
      while (!signal.aborted) {
        if (position >= this.settled) {
          const from = await new Promise<number>((resolve) => {
            wake = resolve;
            this.#wait(resolve, sessionId);
          });
          this.#forget(wake, sessionId);
          if (from < Number.POSITIVE_INFINITY) position = Math.max(position, from);
          continue;
        }
        const page =
          this.#recent.after(position, sessionId, pageSize) ?? (await this.#read(position, sessionId, sequence));
        position = page.upTo;
        sequence = page.events.at(-1)?.sequence ?? sequence;
        if (page.events.length > 0) yield page;
      }
    } finally {
      signal.removeEventListener("abort", stop);
      if (wake !== undefined) this.#forget(wake, sessionId);
      this.#leave();
    }
  }

  /**
   * What a reader that stands at a position has before it, in bytes, as far as that is in memory.
   *
   * @param limit counting ends here
   */
  weightAfter(position: number, sessionId: string | undefined, limit: number): number {
    return this.#recent.weightAfter(position, sessionId, limit);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #read(position: number, sessionId: string | undefined, sequence: number): Promise<FeedPage> {
    const parameters = sessionId === undefined ? [position] : [position, "default", sessionId, sequence];
    const rows = await this.#options.database.query<Read>(
      sessionId === undefined ? readAll : readOfSession,
      parameters,
      {
        neverWaits: true,
      },
    );
    const events = rows.filter((row) => row.position !== null);
    // A page that is full, or that was cut for its weight, is followed by another; an empty one is the last.
    return { events, upTo: events.at(-1)?.position ?? Math.max(position, rows[0]?.settled ?? 0) };
  }

  #wait(wake: Wake, sessionId: string | undefined): void {
    if (sessionId === undefined) {
      this.#waitingForAny.add(wake);
      return;
    }
    const waiting = this.#waitingForSession.get(sessionId);
    if (waiting === undefined) this.#waitingForSession.set(sessionId, new Set([wake]));
    else waiting.add(wake);
  }

  #forget(wake: Wake | undefined, sessionId: string | undefined): void {
    if (wake === undefined) return;
    if (sessionId === undefined) this.#waitingForAny.delete(wake);
    const waiting = sessionId === undefined ? undefined : this.#waitingForSession.get(sessionId);
    waiting?.delete(wake);
    if (sessionId !== undefined && waiting?.size === 0) this.#waitingForSession.delete(sessionId);
  }

  #wakeSession(id: string, from: number): void {
    const waiting = this.#waitingForSession.get(id);
    if (waiting !== undefined) wakeAll(waiting, from);
  }

  #join(): void {
    this.#readers++;
    if (!this.#leads) this.#startLooking();
  }

  #leave(): void {
    this.#readers--;
    if (this.#readers > 0 || this.#leads) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    // Nobody follows it from here on: the next reader starts from what is settled then.
    this.#settled = undefined;
    this.#recent.clear();
  }

  #startLooking(): void {
    this.#timer ??= setInterval(() => this.look(), lookEveryMs).unref();
  }

  /** What is settled is known, but not what came before: those who tail must read it. */
  #jump(settled: number): void {
    const from = this.#settled;
    this.#recent.clear();
    this.#settled = settled;
    if (from === undefined || settled <= from) return;
    wakeAll(this.#waitingForAny, from);
    for (const id of [...this.#waitingForSession.keys()]) this.#wakeSession(id, from);
  }

  async #ask(): Promise<number> {
    const rows = await this.#options.database.query<Read>(readAll, [Number.MAX_SAFE_INTEGER], { neverWaits: true });
    return rows[0]?.settled ?? 0;
  }

  async #look(): Promise<void> {
    this.#looking ??= this.#lookNow()
      .catch((error: unknown) => this.#options.onError(error))
      .finally(() => {
        this.#looking = undefined;
      });
    await this.#looking;
  }

  async #lookNow(): Promise<void> {
    if (this.#settled === undefined) {
      const settled = await this.#ask();
      if (this.#settled === undefined) this.#jump(settled);
      return;
    }
    for (;;) {
      const known: number | undefined = this.#settled;
      const rows = await this.#options.database.query<Read>(readAll, [known ?? 0], { neverWaits: true });
      const settled = rows[0]?.settled ?? 0;
      // While the database was asked, the lease may have come here, or somebody else may have looked.
      if (this.#leads || this.#settled !== known) return;
      const events = rows.filter((row) => row.position !== null);
      const last = events.at(-1)?.position;
      this.append(events, last ?? settled);
      if (last === undefined) return;
    }
  }
}

function wakeAll(waiting: Set<Wake>, from: number): void {
  const woken = [...waiting];
  waiting.clear();
  for (const wake of woken) wake(from);
}
