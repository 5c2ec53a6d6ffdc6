/** A sound story of three sessions, and what is needed to damage it. */

import { check, type Evidence } from "./check.ts";
import {
  changesChannel,
  type Delivery,
  type EventEvidence,
  isChange,
  type SessionEvidence,
  type StreamEntry,
} from "./evidence.ts";

export const agent = "550e8400-e29b-41d4-a716-446655440000";
export const [first, second, gone] = ["aaaa", "bbbb", "cccc"] as const;

export interface Story {
  sessions: SessionEvidence[];
  events: EventEvidence[];
  horizon: number;
  subscribed: Set<string>;
  deliveries: Delivery[];
  entries: StreamEntry[];
  maxLength: number;
  forgot: boolean;
}

type Told = readonly [type: string, version: number, payload?: object];

export function eventsOf(id: string, told: readonly Told[], from = 1): EventEvidence[] {
  return told.map(([type, version, payload = {}], at) => ({
    event_id: `${id}-${at + from}`,
    session_id: id,
    sequence: at + from,
    session_version: version,
    event_type: `session.${type}`,
    position: 0,
    payload: ["thinking", "purged"].includes(type) ? { ...payload } : { agent_id: agent, ...payload },
    metadata: { request_id: "r" },
  }));
}

function rowOf(id: string, row: Partial<SessionEvidence>): SessionEvidence {
  const base = { id, agent_id: agent, phase: "running", status: "active", deleted: false, purging: false };
  return { ...base, version: 1, last_sequence: 1, ...row };
}

export function messageOf(event: EventEvidence): string {
  const { session_id: id, ...rest } = event;
  return JSON.stringify({ ...rest, aggregate_type: "session", aggregate_id: id, position: String(event.position) });
}

function entryOf(event: EventEvidence, at: number): StreamEntry {
  const { session_id: id, payload, metadata, ...rest } = event;
  const plain = Object.entries(rest).map(([name, value]) => [name, String(value)] as const);
  const fields = { aggregate_id: id, payload: JSON.stringify(payload), metadata: JSON.stringify(metadata) };
  return { id: `${at + 1}-0`, fields: { ...Object.fromEntries(plain), ...fields } };
}

const created = { session_type: "task", runtime_backend: "local", phase: "running" };
export const paused = {
  status: "paused",
  phase: "paused",
  updates: ["status", "phase"],
  from: "running",
  to: "paused",
};
const still = { status: "paused", phase: "paused" };

/** Three sessions: one that was changed, reported of, deleted and restored; one that is deleted; one that was purged. */
export function story(): Story {
  const events = [
    ...eventsOf(first, [
      ["created", 1, created],
      ["thinking", 1, { iteration: 1 }],
      ["updated", 2, paused],
      ["deleted", 3, still],
      ["restored", 4, still],
      ["updated", 5, { ...still, updates: ["checkpoint"] }],
    ]),
    ...eventsOf(second, [
      ["created", 1, created],
      ["deleted", 2, { status: "active", phase: "running" }],
    ]),
    ...eventsOf(gone, [["purged", 3]], 3),
  ].map((event, at) => ({ ...event, position: at + 1 }));
  const earlier = messageOf({ ...eventsOf(gone, [["created", 1, created]])[0], position: 0 } as EventEvidence);
  return {
    sessions: [
      rowOf(first, { phase: "paused", status: "paused", version: 5, last_sequence: 6 }),
      rowOf(second, { version: 2, last_sequence: 2, deleted: true }),
    ],
    events,
    horizon: 0,
    subscribed: new Set([changesChannel, `${changesChannel}:*`]),
    deliveries: [
      { channel: changesChannel, message: earlier },
      ...events.flatMap((event) => [
        ...(isChange(event) ? [{ channel: changesChannel, message: messageOf(event) }] : []),
        { channel: `${changesChannel}:${event.session_id}`, message: messageOf(event) },
      ]),
    ],
    entries: events.filter(isChange).map(entryOf),
    maxLength: 100,
    forgot: false,
  };
}

function evidenceOf({ sessions, events, horizon, subscribed, deliveries, ...stream }: Story): Evidence {
  return { history: { sessions, events, horizon }, log: { subscribed, deliveries }, stream };
}

/** What the checker says of the story after this was done to it. */
export function saidAfter(damage: (story: Story) => void): string[] {
  const damaged = story();
  damage(damaged);
  return check(evidenceOf(damaged));
}

/** The place of an event in the history. */
export const at = (id: string, sequence: number) => (event: EventEvidence) =>
  event.session_id === id && event.sequence === sequence;

export function patchEvent(told: Story, id: string, sequence: number, change: Partial<EventEvidence>): void {
  told.events = told.events.map((event) => (at(id, sequence)(event) ? { ...event, ...change } : event));
}

export function patchRow(told: Story, id: string, change: Partial<SessionEvidence>): void {
  told.sessions = told.sessions.map((row) => (row.id === id ? { ...row, ...change } : row));
}

/** Only the history is judged: the deliveries would repeat what is said of it. */
export function historyAfter(damage: (told: Story) => void): string[] {
  const damaged = story();
  damage(damaged);
  return check({ history: evidenceOf(damaged).history });
}

export const isOn = (channel: string, id: string, sequence: number) => (delivery: Delivery) => {
  const { aggregate_id: session, sequence: number } = JSON.parse(delivery.message) as Record<string, unknown>;
  return delivery.channel === channel && session === id && number === sequence;
};

export function swap<Item>(items: Item[], one: (item: Item) => boolean, other: (item: Item) => boolean): void {
  const [from, to] = [items.findIndex(one), items.findIndex(other)];
  const [a, b] = [items[from], items[to]];
  if (a === undefined || b === undefined) throw new Error("there is nothing to swap");
  [items[from], items[to]] = [b, a];
}
