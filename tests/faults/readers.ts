/** Readers that follow the feed as clients do: page by page from the last position that they saw, or as a stream. */

import { setTimeout as sleep } from "node:timers/promises";
import { check } from "../checker/check.ts";
import { type Delivery, sessionPattern } from "../checker/evidence.ts";
import { readHistory } from "../checker/read.ts";
import { until } from "../support/until.ts";

export interface Reader {
  readonly name: string;
  /** What it was given, as a subscriber to each session would have been. */
  readonly deliveries: readonly Delivery[];
  /** How its connections ended that did not stay. */
  readonly endings: readonly string[];
  stop(): Promise<void>;
}

interface Given {
  readonly aggregate_id: string;
  readonly position: string;
}

function deliveryOf(event: Given): Delivery {
  return { channel: `events:session:${event.aggregate_id}`, message: JSON.stringify(event) };
}

/** Asks GET /events again and again for what comes after the last position that it saw. */
export function followPages(url: string, after = "0"): Reader {
  const stopping = new AbortController();
  const deliveries: Delivery[] = [];
  const running = (async () => {
    let position = after;
    while (!stopping.signal.aborted) {
      const answer = await fetch(`${url}/events?after=${position}&limit=50`);
      if (!answer.ok) throw new Error(`after ${position}: ${answer.status} ${await answer.text()}`);
      const events = (await answer.json()) as Given[];
      deliveries.push(...events.map(deliveryOf));
      position = events.at(-1)?.position ?? position;
      if (events.length === 0) await sleep(5, undefined, { signal: stopping.signal }).catch(() => {});
    }
  })();
  running.catch(() => {});
  return {
    name: "GET /events",
    deliveries,
    endings: [],
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Listens to a stream of events, and comes back to where it was when it is cut off. */
export function followStream(url: string, path: string): Reader {
  return followStreams(`GET ${path}`, () => ({ url: `${url}${path}` }));
}

/** Listens to one replica and then to another, in no order: it leaves in the midst of it, and goes on from where it was. */
export function wander(urls: readonly string[], path: string, mostMs = 1_500): Reader {
  return followStreams(`GET ${path} here and there`, () => ({
    url: `${urls[Math.floor(Math.random() * urls.length)]}${path}`,
    forMs: Math.ceil(Math.random() * mostMs),
  }));
}

interface Visit {
  readonly url: string;
  /** It leaves then; undefined: it stays for as long as it may. */
  readonly forMs?: number;
}

function followStreams(name: string, next: () => Visit): Reader {
  const stopping = new AbortController();
  const { signal } = stopping;
  const deliveries: Delivery[] = [];
  const endings: string[] = [];
  let lastEventId = "0";
  const readOnce = async () => {
    const headers = { accept: "text/event-stream", "last-event-id": lastEventId };
    const { url, forMs } = next();
    const leaving = forMs === undefined ? signal : AbortSignal.any([signal, AbortSignal.timeout(forMs)]);
    const answer = await fetch(url, { headers, signal: leaving });
    if (!answer.ok || answer.body === null) throw new Error(`${answer.status} ${await answer.text()}`);
    let rest = "";
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
      const blocks = `${rest}${chunk}`.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const data = /^data: ?(.*)$/m.exec(block)?.[1];
        if (data !== undefined) deliveries.push(deliveryOf(JSON.parse(data)));
        lastEventId = /^id: ?(.*)$/m.exec(block)?.[1] ?? lastEventId;
      }
    }
    throw new Error(`it ended after ${lastEventId}`);
  };
  const running = (async () => {
    while (!signal.aborted) {
      await readOnce().catch((error: unknown) => signal.aborted || endings.push(String(error)));
      await sleep(20, undefined, { signal }).catch(() => {});
    }
  })();
  return {
    name,
    deliveries,
    endings,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** Waits until a reader that began at the beginning has everything, and gives what is amiss with it. */
export async function readersViolations(readers: readonly Reader[], databaseUrl: string): Promise<string[]> {
  const history = await readHistory(databaseUrl);
  const amiss: string[] = [];
  for (const { name, deliveries, endings } of readers) {
    await until(() => deliveries.length >= history.events.length, name, { withinMs: 20_000 }).catch(() => {});
    const violations = check({ history, log: { subscribed: new Set([sessionPattern]), deliveries } });
    amiss.push(...violations.map((violation) => `${name}: ${violation}`));
    if (violations.length > 0) amiss.push(...endings.map((ending) => `${name}: ${ending}`));
    const different = new Set(deliveries.map(({ message }) => message)).size;
    if (different < deliveries.length) amiss.push(`${name}: ${deliveries.length - different} events came twice`);
  }
  return amiss;
}
