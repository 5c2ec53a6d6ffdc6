/** What came by way of Redis against the history: all of it, in order, nothing else, and duplicates that are the same. */

import { isDeepStrictEqual } from "node:util";
import {
  bySession,
  changesChannel,
  type DeliveryLog,
  type EventEvidence,
  type History,
  isChange,
  type StreamEntry,
  type StreamEvidence,
  sessionPattern,
  stream,
} from "./evidence.ts";

/** The history, for looking things up in it. */
interface Known {
  readonly history: History;
  readonly byId: ReadonlyMap<string, EventEvidence>;
  /** Of purged sessions only their end is known: the sequence of `session.purged`. */
  readonly purged: ReadonlyMap<string, number>;
}

/** What came by one road. */
interface Arrivals {
  /** How the road is called in sentences. */
  readonly road: string;
  readonly carries: (event: EventEvidence) => boolean;
  readonly items: readonly Arrival[];
}

interface Arrival {
  /** Where it came, where that may differ within the road. */
  readonly channel: string;
  /** Word for word. */
  readonly text: string;
  /** Undefined: it is no event. */
  readonly event: Envelope | undefined;
}

type Envelope = Readonly<Record<string, unknown>> & {
  readonly event_id: string;
  readonly aggregate_id: string;
  readonly sequence: number;
};

/** The keys of an envelope, and what they are called in the history. */
const compared = {
  event_type: "event_type",
  aggregate_id: "session_id",
  sequence: "sequence",
  session_version: "session_version",
  payload: "payload",
  metadata: "metadata",
} as const satisfies Record<string, keyof EventEvidence>;

/** Every violation, in a sentence: what was listened to carried everything, in order for each session, and no more. */
export function deliveryViolations(history: History, { subscribed, deliveries }: DeliveryLog): string[] {
  const known = knownOf(history);
  const on = (isOnRoad: (channel: string) => boolean): Arrival[] =>
    deliveries
      .filter(({ channel }) => isOnRoad(channel))
      .map(({ channel, message }) => ({ channel, text: message, event: envelopeOf(parsed(message)) }));
  const roads: Arrivals[] = [
    { road: changesChannel, carries: isChange, items: on((channel) => channel === changesChannel) },
    { road: sessionPattern, carries: () => true, items: on(isOfSession) },
  ];
  const strange = deliveries.filter(({ channel }) => channel !== changesChannel && !isOfSession(channel));
  return [
    ...strange.map(({ channel }) => `A message came on ${channel}, which is none of the channels.`),
    ...roads.flatMap((arrivals) => {
      const { amiss, arrived } = judge(known, arrivals);
      return subscribed.has(arrivals.road) ? [...amiss, ...lost(known, arrivals, arrived)] : amiss;
    }),
  ];
}

/** Every violation, in a sentence: the stream holds each change that is within its length, in order. */
export function streamViolations(history: History, { entries, maxLength, forgot }: StreamEvidence): string[] {
  const known = knownOf(history);
  const items = entries.map(({ fields }) => ({
    channel: changesChannel,
    text: JSON.stringify(Object.entries(fields).sort()),
    event: envelopeOf(unflattened(fields)),
  }));
  const arrivals = { road: stream, carries: isChange, items };
  const { amiss, arrived } = judge(known, arrivals, { mayBeginLate: true });
  const positions = [...arrived].flatMap((id) => known.byId.get(id)?.position ?? []);
  const oldest = positions.reduce((least, position) => Math.min(least, position), Number.POSITIVE_INFINITY);
  const isWhole = !forgot && entries.length < maxLength;
  return [...amiss, ...lost(known, arrivals, arrived, isWhole ? 0 : oldest)];
}

function isOfSession(channel: string): boolean {
  return channel.startsWith(`${changesChannel}:`);
}

function knownOf(history: History): Known {
  const purged = history.events.filter(({ event_type: type }) => type === "session.purged");
  return {
    history,
    byId: new Map(history.events.map((event) => [event.event_id, event])),
    purged: new Map(purged.map(({ session_id: id, sequence }) => [id, sequence])),
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function envelopeOf(value: unknown): Envelope | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { event_id: id, aggregate_id: session, sequence } = value as Record<string, unknown>;
  const isEvent = typeof id === "string" && typeof session === "string" && Number.isInteger(sequence);
  return isEvent ? (value as Envelope) : undefined;
}

/** An entry's fields are texts; these stand for something else. */
function unflattened(fields: StreamEntry["fields"]): unknown {
  const values = ["sequence", "session_version", "schema_version", "payload", "metadata"];
  return { ...fields, ...Object.fromEntries(values.map((name) => [name, parsed(fields[name] ?? "")])) };
}

/**
 * What came, one after the other: known to the history, the same as there, and for each session in order.
 *
 * @param options.mayBeginLate the first of a session need not be its first event
 */
function judge(known: Known, { road, carries, items }: Arrivals, { mayBeginLate = false } = {}) {
  const amiss: string[] = [];
  const told = new Map<string, string>();
  const last = new Map<string, number>();
  for (const { channel, text, event } of items) {
    if (event === undefined) {
      amiss.push(`${road}: what came is no event: ${text.slice(0, 200)}`);
      continue;
    }
    const { event_id: eventId, aggregate_id: id, sequence } = event;
    const name = `${road}: event ${sequence} of ${id}`;
    if (isOfSession(channel) && channel !== `${changesChannel}:${id}`) amiss.push(`${name} came on ${channel}.`);
    const first = told.get(eventId);
    if (first !== undefined) {
      if (first !== text) amiss.push(`${name} came again with other content: ${text} after ${first}`);
      continue;
    }
    told.set(eventId, text);
    amiss.push(...unlike(known, carries, event).map((how) => `${name} came ${how}`));
    const before = last.get(id) ?? (mayBeginLate ? sequence - 1 : 0);
    if (sequence <= before) amiss.push(`${name} came first after ${before}.`);
    last.set(id, Math.max(before, sequence));
  }
  return { amiss, arrived: new Set(told.keys()) };
}

/** How an event differs from what the history has under its id. */
function unlike({ byId, purged, history }: Known, carries: Arrivals["carries"], event: Envelope): string[] {
  const has = byId.get(event.event_id);
  if (has === undefined) {
    // It has been removed since, and can't be compared.
    const isGone = event.sequence < (purged.get(event.aggregate_id) ?? 0);
    const isOld = Number(event["position"]) <= history.horizon;
    return isGone || isOld ? [] : [`with id ${event.event_id}, which the history does not have.`];
  }
  const misplaced = carries(has) ? [] : [`though ${has.event_type} has no place there.`];
  const other = Object.entries(compared).flatMap(([key, column]) => {
    if (isDeepStrictEqual(event[key], has[column])) return [];
    return [`with ${key} ${JSON.stringify(event[key])}; the history has ${JSON.stringify(has[column])}.`];
  });
  return [...misplaced, ...other];
}

/** What the road should have carried, from this position on, and did not: a sentence for each session. */
function lost({ history }: Known, { road, carries }: Arrivals, arrived: ReadonlySet<string>, from = 0): string[] {
  const missing = history.events.filter(
    (event) => carries(event) && event.position >= from && !arrived.has(event.event_id),
  );
  return [...bySession(missing)].map(([id, events]) => {
    return `${road}: of ${id} never came ${events.map(({ sequence }) => sequence).join(", ")}.`;
  });
}
