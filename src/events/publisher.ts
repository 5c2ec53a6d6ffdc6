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
          // Whether Redis takes anything again is asked with one event: a refused page costs as much as a taken one.
          const trial = failures > 0 ? 1 : 0;
          await this.#publish(page.events.slice(0, trial));
          failures = 0;
          await this.#publish(page.events.slice(trial));
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
    if (events.length === 0) return;
    const deliveries = events.map((event): Delivery => {
      const own = sessionChannel(event.session_id);
      const message = envelopeText(event);
      if (!isChange.has(event.event_type)) return { channels: [own], message };
      return { channels: [changesChannel, own], message, entry: streamFields(event) };
    });
    await this.#options.broker.publish(deliveries);
  }
}
