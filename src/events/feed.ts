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
import { EventsRemovedError, type FeedPage, type Place, pageSize, readPage, readSettled } from "./feed-pages.ts";
import { RecentEvents } from "./recent.ts";
import type { EventRow } from "./row.ts";
import { Turns } from "./turns.ts";

export interface FollowOptions {
  /** The position after which to start; undefined: with what is settled from now on. */
  readonly after?: number | undefined;
  /** Only the events of this session. */
  readonly sessionId?: string | undefined;
  /** The sequence of the session's event at `after`, where that is known: spares looking for it. */
  readonly afterSequence?: number | undefined;
  readonly signal: AbortSignal;
  /** Clients take turns in reading from the database; such a page is in memory until the next is asked for. */
  readonly isClient?: boolean;
  /** Called whenever the reader has been given all there is. */
  readonly atEnd?: () => void;
}

/** How soon a process without the lease sees what is settled, if Redis does not say so. */
const lookEveryMs = 250;

/** So many clients hold a page from the database in memory at a time. */
const clientsReading = 8;

interface Reader extends Place {
  readonly isClient: boolean;
}

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
  /** There may be more than what is being looked for. */
  #lookAgain = false;
  readonly #turns = new Turns(clientsReading);
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
    else this.#rest();
  }

  /** Events were settled: all that there are after what was settled, up to this position. */
  append(events: readonly EventRow[], upTo: number): void {
    const from = this.settled;
    if (upTo <= from) return;
    this.#settled = upTo;
    this.#recent.add(from, upTo, events);
    wakeAll(this.#waitingForAny, from);
    if (this.#waitingForSession.size === 0) return;
    for (const { session_id: id } of events) this.#wakeSession(id, from);
  }

  /** Looks for what another process has settled; for when Redis says that there is something. */
  look(): void {
    if (!this.#leads && this.#readers > 0) void this.#look();
  }

  /** Keeps the feed up to date, for a reader that follows it now and then. Gives back what ends that. */
  join(): () => void {
    this.#readers++;
    if (!this.#leads) this.#startLooking();
    return () => {
      this.#readers--;
      if (this.#readers === 0 && !this.#leads) this.#rest();
    };
  }

  /** Up to where the feed is settled now: following from here misses nothing that is settled later. */
  async now(): Promise<number> {
    return this.#settled ?? (await readSettled(this.#options.database));
  }

  /** Waits until the feed is settled up to a position, at most so long. */
  async reach(position: number, withinMs: number): Promise<void> {
    const leave = this.join();
    let isOver = false;
    let wake: Wake | undefined;
    const timer = setTimeout(() => {
      isOver = true;
      wake?.(0);
    }, withinMs);
    try {
      if (this.#settled === undefined) await this.#lookNow();
      else this.look();
      while (this.settled < position && !isOver) {
        await new Promise<void>((resolve) => {
          wake = () => resolve();
          this.#waitingForAny.add(wake);
        });
        if (wake !== undefined) this.#waitingForAny.delete(wake);
      }
    } finally {
      clearTimeout(timer);
      leave();
    }
  }

  /**
   * Replays from a position, then tails, until the signal is given. Nothing is skipped, nothing comes twice. A database
   * that is away is waited for while tailing; while replaying, its error is thrown.
   */
  async *follow(options: FollowOptions): AsyncGenerator<FeedPage, void, void> {
    const { after, sessionId, afterSequence = 0, signal, isClient = false, atEnd } = options;
    let wake: Wake | undefined;
    const stop = () => wake?.(Number.POSITIVE_INFINITY);
    signal.addEventListener("abort", stop);
    const leave = this.join();
    try {
      if (this.#settled === undefined) await this.#lookNow();
      const reader: Reader = { sessionId, isClient, position: after ?? this.settled, sequence: afterSequence };
      while (!signal.aborted) {
        if (reader.position < this.settled) {
          yield* this.#next(reader, signal);
          continue;
        }
        atEnd?.();
        const from = await new Promise<number>((resolve) => {
          wake = resolve;
          this.#wait(resolve, sessionId);
        });
        this.#forget(wake, sessionId);
        if (from < Number.POSITIVE_INFINITY) reader.position = Math.max(reader.position, from);
      }
    } finally {
      signal.removeEventListener("abort", stop);
      if (wake !== undefined) this.#forget(wake, sessionId);
      leave();
    }
  }

  /** Gives the next page, if there is anything on it. */
  async *#next(reader: Reader, signal: AbortSignal): AsyncGenerator<FeedPage, void, void> {
    const { sessionId, isClient } = reader;
    const kept = this.#recent.after(reader.position, sessionId, pageSize);
    const hasTurn = kept === undefined && isClient && (await this.#turns.take(signal));
    if (signal.aborted && !hasTurn) return;
    try {
      const page: FeedPage = kept ?? (await readPage(this.#options.database, reader));
      if (isClient && page.isIncomplete === true) throw new EventsRemovedError();
      reader.position = page.upTo;
      reader.sequence = page.events.at(-1)?.sequence ?? reader.sequence;
      if (page.events.length > 0) yield page;
    } finally {
      if (hasTurn) this.#turns.give();
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

  /** Nobody follows it from here on: the next reader starts from what is settled then. */
  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
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

  async #look(): Promise<void> {
    this.#lookAgain = true;
    this.#looking ??= (async () => {
      while (this.#lookAgain) {
        this.#lookAgain = false;
        await this.#lookNow().catch((error: unknown) => this.#options.onError(error));
      }
      this.#looking = undefined;
    })();
    await this.#looking;
  }

  async #lookNow(): Promise<void> {
    if (this.#settled === undefined) {
      const settled = await readSettled(this.#options.database);
      if (this.#settled === undefined) this.#jump(settled);
      return;
    }
    for (const place: Place = { position: 0, sequence: 0 }; ; ) {
      const known: number | undefined = this.#settled;
      place.position = known ?? 0;
      const { events, upTo } = await readPage(this.#options.database, place);
      // While the database was asked, the lease may have come here, or somebody else may have looked.
      if (this.#leads || this.#settled !== known) return;
      this.append(events, upTo);
      if (events.length === 0) return;
    }
  }
}

function wakeAll(waiting: Set<Wake>, from: number): void {
  const woken = [...waiting];
  waiting.clear();
  for (const wake of woken) wake(from);
}
