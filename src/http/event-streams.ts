/**
 * Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): replays from where a reader was,
 * then goes on live. Every stored event carries its position as `id`, so a reader that is cut off resumes where it was.
 *
 * A stream takes from the feed only what its client takes from it: no more than one write waits in memory for each. A
 * client that falls behind while others go on is cut off, and never silently skipped.
 */

import type { FastifyReply, FastifyRequest } from "fastify";
import type { Feed } from "../events/feed.ts";
import type { EventRow } from "../events/row.ts";
import type { Vocabulary } from "../sessions/vocabulary.ts";
import { Backlog, framesOf } from "./event-frames.ts";

export interface StreamOptions {
  /** The position after which to start. */
  readonly after: number;
  readonly sessionId?: string | undefined;
  readonly matches: (event: EventRow) => boolean;
  readonly vocabulary: Vocabulary | undefined;
}

export interface StreamLimits {
  readonly keepAliveMs: number;
  /** How far behind a reader may be: in time, and in bytes. */
  readonly behindMs: number;
  readonly behindBytes: number;
  /** What all streams together may have waiting in memory. */
  readonly backlogBytes: number;
}

/** Beside the backlog, Node keeps up to 16 KiB of small writes for each: with 2,000 streams all stay under 64 MiB. */
export const streamLimits: StreamLimits = {
  keepAliveMs: 15_000,
  behindMs: 30_000,
  behindBytes: 1024 * 1024,
  backlogBytes: 32 * 1024 * 1024,
};

/** How often the streams are looked after. */
const checkEveryMs = 1_000;

/** How much is written at once: enough to be worth the system call, and less when much waits already. */
const writeBytes = { most: 64 * 1024, least: 1024 };

/** A client that takes what it is sent has taken it by then: it is not to blame for a backlog. */
const promptMs = 250;

/** A client that takes nothing for so long is waited for without the page that it is reading. */
const holdMs = 500;

/** After how long a client comes back that was cut off; spread when all are, at the end. */
const retryMs = 2_000;

/** A write that the client has not taken yet. */
interface Blocked {
  readonly since: number;
  readonly text: Buffer;
  /** It has, or it is gone. */
  readonly over: Promise<void>;
  /** Stops waiting with the page in hand. */
  readonly letGo: () => void;
  /** At the last check it was too many bytes behind already. */
  wasHeavy: boolean;
}

interface Stream {
  readonly response: FastifyReply["raw"];
  readonly options: StreamOptions;
  readonly end: AbortController;
  /** Up to here everything has been written. */
  position: number;
  /** Of the last event that was written; 0: none was. */
  sequence: number;
  writtenAt: number;
  /** Whether it has once had all that there was. */
  wasLive: boolean;
  /** Since when there is something that it has not got. */
  behindSince: number | undefined;
  blocked: Blocked | undefined;
}

export class EventStreams {
  readonly #feed: Feed;
  readonly #limits: StreamLimits;
  readonly #streams = new Set<Stream>();
  /** Those whose clients have not taken what was written, in the order in which it was. */
  readonly #blocked = new Set<Stream>();
  readonly #backlog = new Backlog();
  readonly #timer: NodeJS.Timeout;
  #isStopped = false;

  constructor(feed: Feed, limits: StreamLimits = streamLimits) {
    this.#feed = feed;
    this.#limits = limits;
    this.#timer = setInterval(() => this.#check(), Math.min(checkEveryMs, limits.keepAliveMs / 4)).unref();
  }

  /** How many are open. */
  get size(): number {
    return this.#streams.size;
  }

  /** What waits in memory for clients, in bytes. */
  get backlog(): number {
    return this.#backlog.bytes;
  }

  /** Answers with a stream, which goes on until the client leaves or is cut off, or the service stops. */
  open(request: FastifyRequest, reply: FastifyReply, options: StreamOptions): void {
    const headers = {
      ...reply.getHeaders(),
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      // Asks nginx not to hold the stream back.
      "x-accel-buffering": "no",
    };
    reply.hijack();
    const { raw: response } = reply;
    // The client may have left while its position was looked up.
    if (response.destroyed) return;
    response.writeHead(200, headers as Record<string, string>);
    if (request.method === "HEAD" || this.#isStopped) {
      response.end(request.method === "HEAD" ? undefined : farewell());
      return;
    }
    const stream: Stream = {
      response,
      options,
      end: new AbortController(),
      position: options.after,
      sequence: 0,
      writtenAt: performance.now(),
      wasLive: false,
      behindSince: undefined,
      blocked: undefined,
    };
    this.#streams.add(stream);
    response.on("close", () => stream.end.abort());
    response.on("error", () => stream.end.abort());
    response.write(`retry: ${retryMs}\n\n`);
    void this.#run(stream).catch((error: unknown) => request.log.debug({ err: error }, "an event stream broke off"));
  }

  /** Ends all streams; their clients are asked to come back, not all at once. */
  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#timer);
    for (const { response, end } of [...this.#streams]) {
      if (response.writable) response.end(farewell());
      end.abort();
    }
  }

  async #run(stream: Stream): Promise<void> {
    const { response, end } = stream;
    const leave = this.#feed.join();
    try {
      while (!end.signal.aborted) {
        await this.#follow(stream);
        await stream.blocked?.over;
      }
    } finally {
      leave();
      this.#streams.delete(stream);
      // Cut short, so that the client sees it is not the end, and resumes.
      if (!response.writableEnded) response.destroy();
    }
  }

  /** Writes what there is and what comes, until the client takes nothing any more. */
  async #follow(stream: Stream): Promise<void> {
    const { options, end } = stream;
    const pages = this.#feed.follow({
      after: stream.position,
      sessionId: options.sessionId,
      afterSequence: stream.sequence,
      signal: end.signal,
      isClient: true,
      atEnd() {
        stream.wasLive = true;
        stream.behindSince = undefined;
      },
    });
    for await (const page of pages) {
      stream.behindSince ??= performance.now();
      if (!(await this.#write(stream, page.events.filter(options.matches)))) return;
      stream.position = page.upTo;
      stream.sequence = page.events.at(-1)?.sequence ?? stream.sequence;
    }
  }

  /** @returns whether all was written; false: the client takes nothing, and shall be waited for */
  async #write(stream: Stream, events: readonly EventRow[]): Promise<boolean> {
    const { response, options, end } = stream;
    for (let at = 0; at < events.length && !end.signal.aborted; ) {
      const { events: written, text } = framesOf(events, at, this.#share(), options.vocabulary);
      at += written.length;
      stream.position = written.at(-1)?.position ?? stream.position;
      stream.sequence = written.at(-1)?.sequence ?? 0;
      stream.writtenAt = performance.now();
      if (!response.write(text) && !(await this.#isTaken(stream, text))) return false;
    }
    return true;
  }

  /** How much a stream may write at once. */
  #share(): number {
    const free = this.#limits.backlogBytes - this.#backlog.bytes;
    return Math.max(writeBytes.least, Math.min(writeBytes.most, free / 64));
  }

  /** Waits until the client has taken what was written, or is gone; false: that takes too long to wait for it here. */
  async #isTaken(stream: Stream, text: Buffer): Promise<boolean> {
    const { response, end } = stream;
    const over = new Promise<void>((resolve) => {
      const done = () => {
        response.off("drain", done);
        end.signal.removeEventListener("abort", done);
        this.#unblock(stream);
        resolve();
      };
      response.on("drain", done);
      end.signal.addEventListener("abort", done);
    });
    return new Promise((resolve) => {
      stream.blocked = { since: performance.now(), text, over, letGo: () => resolve(false), wasHeavy: false };
      void over.then(() => resolve(true));
      this.#blocked.add(stream);
      this.#backlog.add(text);
      this.#relieve();
    });
  }

  #unblock(stream: Stream): void {
    if (stream.blocked !== undefined) this.#backlog.remove(stream.blocked.text);
    stream.blocked = undefined;
    this.#blocked.delete(stream);
  }

  /** With too much waiting in all, those are cut off who have taken nothing for longest. */
  #relieve(): void {
    const now = performance.now();
    for (const stream of this.#blocked) {
      const isPrompt = now - (stream.blocked?.since ?? now) < promptMs;
      if (this.#backlog.bytes <= this.#limits.backlogBytes || isPrompt) return;
      this.#cut(stream);
    }
  }

  #cut(stream: Stream): void {
    this.#unblock(stream);
    stream.response.destroy();
    stream.end.abort();
  }

  #check(): void {
    const now = performance.now();
    this.#relieve();
    for (const stream of this.#streams) {
      const { blocked } = stream;
      if (blocked !== undefined && this.#isTooSlow(stream, blocked, now)) this.#cut(stream);
      else if (blocked !== undefined && now - blocked.since >= holdMs) blocked.letGo();
      else if (blocked === undefined && now - stream.writtenAt >= this.#limits.keepAliveMs) {
        stream.writtenAt = now;
        stream.response.write(": keep-alive\n\n");
      }
    }
  }

  #isTooSlow({ wasLive, behindSince, position, options }: Stream, blocked: Blocked, now: number): boolean {
    const { behindMs, behindBytes } = this.#limits;
    if (now - blocked.since > behindMs) return true;
    // A replay takes its time; who was live once shall keep up.
    if (!wasLive) return false;
    if (behindSince !== undefined && now - behindSince > behindMs) return true;
    const isHeavy = this.#feed.weightAfter(position, options.sessionId, behindBytes) >= behindBytes;
    // Anyone may be behind a moment after a burst.
    const { wasHeavy } = blocked;
    blocked.wasHeavy = isHeavy;
    return isHeavy && wasHeavy;
  }
}

function farewell(): string {
  return `retry: ${Math.round(retryMs * (0.25 + Math.random()))}\n\n`;
}
