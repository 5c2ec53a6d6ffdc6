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
import { eventName, eventText } from "./event-words.ts";

export interface StreamOptions {
  /** The position after which to start; undefined: with what is settled from now on. */
  readonly after: number | undefined;
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

export const streamLimits: StreamLimits = {
  keepAliveMs: 15_000,
  behindMs: 30_000,
  behindBytes: 1024 * 1024,
  backlogBytes: 64 * 1024 * 1024,
};

/** How often the streams are looked after. */
const checkEveryMs = 1_000;

/** How much is written at once: enough to be worth the system call. */
const writeBytes = 64 * 1024;

/** After how long a client comes back that was cut off; spread when all are, at the end. */
const retryMs = 2_000;

interface Stream {
  readonly response: FastifyReply["raw"];
  readonly options: StreamOptions;
  readonly end: AbortController;
  /** Up to here everything has been written. */
  position: number;
  writtenAt: number;
  /** Whether it has once had all that there was. */
  wasLive: boolean;
  /** Since when there is something that it has not got. */
  behindSince: number | undefined;
  /** Since when its client takes nothing, and what waits for it in memory. */
  blockedSince: number | undefined;
  backlog: number;
  /** At the last check it was too many bytes behind already. */
  wasHeavy: boolean;
}

export class EventStreams {
  readonly #feed: Feed;
  readonly #limits: StreamLimits;
  readonly #streams = new Set<Stream>();
  readonly #timer: NodeJS.Timeout;
  #backlog = 0;

  constructor(feed: Feed, limits: StreamLimits = streamLimits) {
    this.#feed = feed;
    this.#limits = limits;
    this.#timer = setInterval(() => this.#check(), Math.min(checkEveryMs, limits.keepAliveMs / 4)).unref();
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
    response.writeHead(200, headers as Record<string, string>);
    if (request.method === "HEAD") {
      response.end();
      return;
    }
    const stream: Stream = {
      response,
      options,
      end: new AbortController(),
      position: options.after ?? 0,
      writtenAt: performance.now(),
      wasLive: false,
      behindSince: undefined,
      blockedSince: undefined,
      backlog: 0,
      wasHeavy: false,
    };
    this.#streams.add(stream);
    response.on("close", () => stream.end.abort());
    response.on("error", () => stream.end.abort());
    response.write(`retry: ${retryMs}\n\n`);
    void this.#run(stream).catch((error: unknown) => request.log.debug({ err: error }, "an event stream broke off"));
  }

  /** Ends all streams; their clients are asked to come back, not all at once. */
  stop(): void {
    clearInterval(this.#timer);
    for (const { response, end } of [...this.#streams]) {
      const retry = Math.round(retryMs * (0.25 + Math.random()));
      if (response.writable) response.end(`retry: ${retry}\n\n`);
      end.abort();
    }
  }

  async #run(stream: Stream): Promise<void> {
    const { options, response, end } = stream;
    try {
      const { after, sessionId } = options;
      for await (const page of this.#feed.follow({ after, sessionId, signal: end.signal })) {
        stream.behindSince ??= performance.now();
        await this.#write(stream, page.events.filter(options.matches));
        stream.position = page.upTo;
        if (page.upTo < this.#feed.settled) continue;
        stream.wasLive = true;
        stream.behindSince = undefined;
      }
    } finally {
      this.#streams.delete(stream);
      this.#unblock(stream);
      // Cut short, so that the client sees it is not the end, and resumes.
      if (!response.writableEnded) response.destroy();
    }
  }

  async #write(stream: Stream, events: readonly EventRow[]): Promise<void> {
    const { response, options, end } = stream;
    for (let at = 0; at < events.length && !end.signal.aborted; ) {
      const frames: Buffer[] = [];
      let bytes = 0;
      for (; at < events.length && bytes < writeBytes; at++) {
        const event = events[at];
        if (event === undefined) break;
        const frame = frameOf(event, options.vocabulary);
        frames.push(frame);
        bytes += frame.length;
        stream.position = event.position;
      }
      const [first] = frames;
      stream.writtenAt = performance.now();
      if (!response.write(frames.length === 1 && first ? first : Buffer.concat(frames))) await this.#drained(stream);
    }
  }

  /** Waits until the client has taken what was written, or is gone. */
  async #drained(stream: Stream): Promise<void> {
    const { response, end } = stream;
    stream.blockedSince = performance.now();
    stream.backlog = response.writableLength;
    this.#backlog += stream.backlog;
    this.#relieve();
    await new Promise<void>((resolve) => {
      const done = () => {
        response.off("drain", done);
        end.signal.removeEventListener("abort", done);
        resolve();
      };
      response.on("drain", done);
      end.signal.addEventListener("abort", done);
      if (end.signal.aborted) done();
    });
    this.#unblock(stream);
  }

  #unblock(stream: Stream): void {
    this.#backlog -= stream.backlog;
    stream.backlog = 0;
    stream.blockedSince = undefined;
    stream.wasHeavy = false;
  }

  /** With too much waiting in all, those are cut off for whom the most does. */
  #relieve(): void {
    while (this.#backlog > this.#limits.backlogBytes) {
      const heaviest = [...this.#streams].reduce((most, stream) => (stream.backlog > most.backlog ? stream : most));
      this.#cut(heaviest);
    }
  }

  #cut(stream: Stream): void {
    this.#backlog -= stream.backlog;
    stream.backlog = 0;
    stream.response.destroy();
    stream.end.abort();
  }

  #check(): void {
    const now = performance.now();
    for (const stream of this.#streams) {
      if (this.#isTooSlow(stream, now)) this.#cut(stream);
      else if (stream.blockedSince === undefined && now - stream.writtenAt >= this.#limits.keepAliveMs) {
        stream.writtenAt = now;
        stream.response.write(": keep-alive\n\n");
      }
    }
  }

  #isTooSlow(stream: Stream, now: number): boolean {
    const { behindMs, behindBytes } = this.#limits;
    const { blockedSince, behindSince, wasLive, position, options } = stream;
    if (blockedSince === undefined) return false;
    if (now - blockedSince > behindMs) return true;
    // A replay takes its time; who was live once shall keep up.
    if (!wasLive) return false;
    if (behindSince !== undefined && now - behindSince > behindMs) return true;
    const isHeavy = this.#feed.weightAfter(position, options.sessionId, behindBytes) >= behindBytes;
    // Anyone may be behind a moment after a burst.
    const wasHeavy = stream.wasHeavy;
    stream.wasHeavy = isHeavy;
    return isHeavy && wasHeavy;
  }
}

const frames = new Map<Vocabulary | undefined, WeakMap<EventRow, Buffer>>();

/** The event as it is written to a stream: made once for all streams that write it. */
function frameOf(event: EventRow, vocabulary: Vocabulary | undefined): Buffer {
  let ofVocabulary = frames.get(vocabulary);
  if (ofVocabulary === undefined) {
    ofVocabulary = new WeakMap();
    frames.set(vocabulary, ofVocabulary);
  }
  let frame = ofVocabulary.get(event);
  if (frame === undefined) {
    const text = `id: ${event.position}\nevent: ${eventName(event, vocabulary)}\ndata: ${eventText(event, vocabulary)}\n\n`;
    frame = Buffer.from(text);
    ofVocabulary.set(event, frame);
  }
  return frame;
}
