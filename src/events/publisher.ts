/** From the feed to Redis: each event to the channels, and to the stream, in the order of the feed. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Broker, Delivery } from "./broker.ts";
import { changesChannel, changeTypes, sessionChannel } from "./envelope.ts";
import type { Feed } from "./feed.ts";
import { type EventRow, envelopeText, streamFields } from "./row.ts";

export interface PublisherOptions {
  readonly feed: Feed;
  readonly broker: Broker;
  /** Asked before each batch: whoever was frozen may have lost its turn. */
  readonly mayPublish: () => boolean;
  /** Called after each batch: `position` has moved on. */
  readonly onProgress: () => void;
  readonly onError: (error: unknown) => void;
}

const retryMs = { least: 50, most: 1_000 };

/** What is published at once: little enough that a slow link carries it in the time that Redis is given to answer. */
const largestBatch = { events: 250, bytes: 512 * 1024 };

const isChange = new Set(changeTypes);

/** Publishes what is settled, from a position on. It waits for a Redis that is away, and keeps nothing in memory for it. */
export class Publisher {
  readonly #options: PublisherOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #position: number;

  constructor(position: number, options: PublisherOptions) {
    this.#position = position;
    this.#options = options;
    this.#running = this.#run();
  }

  /** Everything up to here is published. */
  get position(): number {
    return this.#position;
  }

  /** Ends, in the middle if need be: what is not counted by `position` then may have been published. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        for await (const page of this.#options.feed.follow({ after: this.#position, signal })) {
          if (!this.#options.mayPublish()) break;
          for (let at = 0; at < page.events.length; ) {
            // Whether Redis takes anything again is asked with one event: a refused batch costs as much as a taken one.
            const batch = failures > 0 ? page.events.slice(at, at + 1) : batchFrom(page.events, at);
            await this.#publish(batch);
            failures = 0;
            at += batch.length;
            this.#position = batch.at(-1)?.position ?? this.#position;
          }
          this.#position = page.upTo;
          this.#options.onProgress();
        }
      } catch (error) {
        // Redis or the database is away. Nothing is lost by waiting: the events are in the table.
        if (failures === 0) this.#options.onError(error);
      }
      await sleep(Math.min(retryMs.least * 2 ** failures, retryMs.most), undefined, { signal }).catch(() => {});
    }
  }

  async #publish(events: readonly EventRow[]): Promise<void> {
    const deliveries = events.map((event): Delivery => {
      const own = sessionChannel(event.session_id);
      const message = envelopeText(event);
      if (!isChange.has(event.event_type)) return { channels: [own], message };
      return { channels: [changesChannel, own], message, entry: streamFields(event) };
    });
    await this.#options.broker.publish(deliveries);
  }
}

/** The next events, at least one. */
function batchFrom(events: readonly EventRow[], start: number): readonly EventRow[] {
  let end = start;
  let bytes = 0;
  for (; end < events.length && end - start < largestBatch.events; end++) {
    bytes += events[end]?.payload.length ?? 0;
    if (bytes > largestBatch.bytes && end > start) break;
  }
  return events.slice(start, end);
}
