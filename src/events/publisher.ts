/** From the feed to Redis: each event to the channels, and to the stream, in the order of the feed. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Broker, Delivery } from "./broker.ts";
import { changesChannel, changesStream, changeTypes, sessionChannel } from "./envelope.ts";
import type { Feed } from "./feed.ts";
import { type EventRow, envelopeText, streamFields } from "./row.ts";

export interface PublisherOptions {
  readonly feed: Feed;
  readonly broker: Broker;
  /** About how many changes the Redis stream keeps; 0: there is no stream. */
  readonly streamLength: number;
  /** Asked before each batch: whoever was frozen may have lost its turn. */
  readonly mayPublish: () => boolean;
  /** Called after each batch: `position` has moved on. */
  readonly onProgress: () => void;
  readonly onError: (error: unknown) => void;
}

const retryMs = { least: 50, most: 1_000 };

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
          await this.#publish(page.events);
          this.#position = page.upTo;
          failures = 0;
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
    const { broker, streamLength } = this.#options;
    const deliveries: Delivery[] = [];
    for (const event of events) {
      const message = envelopeText(event);
      if (isChange.has(event.event_type)) {
        deliveries.push({ channel: changesChannel, message });
        if (streamLength > 0)
          deliveries.push({ stream: changesStream, length: streamLength, fields: streamFields(event) });
      }
      deliveries.push({ channel: sessionChannel(event.session_id), message });
    }
    await broker.publish(deliveries);
  }
}
