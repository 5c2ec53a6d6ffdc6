/** Events as they are written to streams, made once for all streams that write them, and what of it waits in memory. */

import type { EventRow } from "../events/row.ts";
import type { Vocabulary } from "../sessions/vocabulary.ts";
import { eventName, eventText } from "./event-words.ts";

interface Frames {
  readonly events: readonly EventRow[];
  readonly text: Buffer;
}

interface Cache {
  readonly single: WeakMap<EventRow, Buffer>;
  /** Those that were last written together, by the first of them. */
  readonly several: WeakMap<EventRow, Frames>;
}

const caches = new Map<Vocabulary | undefined, Cache>();

function cacheOf(vocabulary: Vocabulary | undefined): Cache {
  const cache = caches.get(vocabulary) ?? { single: new WeakMap(), several: new WeakMap() };
  caches.set(vocabulary, cache);
  return cache;
}

function frameOf(event: EventRow, vocabulary: Vocabulary | undefined): Buffer {
  const { single } = cacheOf(vocabulary);
  const known = single.get(event);
  if (known !== undefined) return known;
  const frame = Buffer.from(
    `id: ${event.position}\nevent: ${eventName(event, vocabulary)}\ndata: ${eventText(event, vocabulary)}\n\n`,
  );
  single.set(event, frame);
  return frame;
}

/**
 * The first of some events as one text: one at least, and then as many as make it this long.
 *
 * @param from where in the array to begin
 */
export function framesOf(
  events: readonly EventRow[],
  from: number,
  leastBytes: number,
  vocabulary: Vocabulary | undefined,
): Frames {
  const frames: Buffer[] = [];
  let to = from;
  for (let bytes = 0; to < events.length && (to === from || bytes < leastBytes); to++) {
    const event = events[to];
    if (event === undefined) break;
    const frame = frameOf(event, vocabulary);
    frames.push(frame);
    bytes += frame.length;
  }
  const taken = events.slice(from, to);
  const [first] = taken;
  if (first === undefined) return { events: [], text: Buffer.alloc(0) };
  if (frames.length === 1) return { events: taken, text: frameOf(first, vocabulary) };
  const { several } = cacheOf(vocabulary);
  const known = several.get(first);
  if (known !== undefined && isSame(known.events, taken)) return known;
  const made = { events: taken, text: Buffer.concat(frames) };
  several.set(first, made);
  return made;
}

function isSame(some: readonly EventRow[], others: readonly EventRow[]): boolean {
  return some.length === others.length && some.every((event, at) => event === others[at]);
}

/** What waits for clients to take it, in bytes: a text that waits for several of them is in memory once. */
export class Backlog {
  readonly #waiting = new Map<Buffer, number>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(text: Buffer): void {
    const clients = this.#waiting.get(text) ?? 0;
    if (clients === 0) this.#bytes += text.length;
    this.#waiting.set(text, clients + 1);
  }

  remove(text: Buffer): void {
    const clients = this.#waiting.get(text) ?? 0;
    if (clients > 1) this.#waiting.set(text, clients - 1);
    else if (this.#waiting.delete(text)) this.#bytes -= text.length;
  }
}
