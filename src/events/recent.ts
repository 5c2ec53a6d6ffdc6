/** The end of the feed, kept in memory for readers who are at it, or nearly: a few seconds of heavy load. */

import type { EventRow } from "./row.ts";

const mostEvents = 5_000;
const mostBytes = 8 * 1024 * 1024;

interface Batch {
  /** All that there is in (from, upTo]. */
  readonly from: number;
  readonly upTo: number;
  readonly events: readonly EventRow[];
  readonly bytes: number;
}

export class RecentEvents {
  /** Without a gap between them. */
  #batches: Batch[] = [];
  #events = 0;
  #bytes = 0;

  /** Goes on from where the last batch ended. */
  add(from: number, upTo: number, events: readonly EventRow[]): void {
    const bytes = events.reduce((sum, event) => sum + weightOf(event), 0);
    this.#batches.push({ from, upTo, events, bytes });
    this.#events += events.length;
    this.#bytes += bytes;
    let oldest = 0;
    while (oldest < this.#batches.length - 1 && (this.#events > mostEvents || this.#bytes > mostBytes)) {
      this.#events -= this.#batches[oldest]?.events.length ?? 0;
      this.#bytes -= this.#batches[oldest]?.bytes ?? 0;
      oldest++;
    }
    if (oldest > 0) this.#batches.splice(0, oldest);
  }

  clear(): void {
    this.#batches = [];
    this.#events = 0;
    this.#bytes = 0;
  }

  /**
   * What follows a position, about so many; undefined when that lies before what is kept.
   *
   * @param sessionId only the events of this session
   */
  after(
    position: number,
    sessionId: string | undefined,
    limit: number,
  ): { readonly events: readonly EventRow[]; readonly upTo: number } | undefined {
    let at = this.#batches.length;
    while (at > 0 && (this.#batches[at - 1]?.upTo ?? 0) > position) at--;
    const first = this.#batches[at];
    if (first === undefined || first.from > position) return undefined;
    const events: EventRow[] = [];
    let upTo = position;
    for (; at < this.#batches.length && events.length < limit; at++) {
      const batch = this.#batches[at];
      if (batch === undefined) break;
      events.push(...batch.events.filter((event) => isWanted(event, position, sessionId)));
      upTo = batch.upTo;
    }
    return { events, upTo };
  }

  /**
   * What a reader at a position has before it, in bytes, as far as it is kept.
   *
   * @param limit counting ends here
   */
  weightAfter(position: number, sessionId: string | undefined, limit: number): number {
    let bytes = 0;
    for (let at = this.#batches.length - 1; at >= 0 && bytes < limit; at--) {
      const batch = this.#batches[at];
      if (batch === undefined || batch.upTo <= position) break;
      for (const event of batch.events) if (isWanted(event, position, sessionId)) bytes += weightOf(event);
    }
    return bytes;
  }
}

function isWanted(event: EventRow, position: number, sessionId: string | undefined): boolean {
  return event.position > position && (sessionId === undefined || event.session_id === sessionId);
}

/** About what an event weighs as text. */
function weightOf({ payload, metadata }: EventRow): number {
  return payload.length + metadata.length + 300;
}
