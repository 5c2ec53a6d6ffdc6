/** What the checker judges: the rows, the history, what subscribers received and what the Redis stream holds. */

export interface SessionEvidence {
  readonly id: string;
  readonly agent_id: string;
  readonly phase: string;
  readonly status: string;
  readonly version: number;
  readonly last_sequence: number;
  readonly deleted: boolean;
  /** A job is removing it: its history may be incomplete, until only `session.purged` is left. */
  readonly purging: boolean;
}

export interface EventEvidence {
  readonly event_id: string;
  readonly session_id: string;
  readonly sequence: number;
  readonly session_version: number;
  readonly event_type: string;
  readonly position: number;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface History {
  readonly sessions: readonly SessionEvidence[];
  /** In the order of session and sequence. */
  readonly events: readonly EventEvidence[];
  /** Events up to this position may have been removed because of their age. */
  readonly horizon: number;
}

/** What a subscriber received, word for word. */
export interface Delivery {
  readonly channel: string;
  readonly message: string;
}

/** The deliveries to one or several subscribers, in the order of their arrival. */
export interface DeliveryLog {
  /** The channels and patterns that somebody listened to for the whole time. */
  readonly subscribed: ReadonlySet<string>;
  readonly deliveries: readonly Delivery[];
}

export interface StreamEntry {
  readonly id: string;
  readonly fields: Readonly<Record<string, string>>;
}

export interface StreamEvidence {
  /** Oldest first. */
  readonly entries: readonly StreamEntry[];
  /** To which it is trimmed, at the least. */
  readonly maxLength: number;
  /** Redis has forgotten earlier entries, as when it was restarted: it is judged from its oldest entry on. */
  readonly forgot: boolean;
}

export const changesChannel = "events:session";
export const sessionPattern = "events:session:*";
export const stream = "stream:events:session";

/** The types of the events that change a session; all others only tell of it. */
const changes = new Set([
  "session.created",
  "session.updated",
  "session.deleted",
  "session.restored",
  "session.purged",
]);

export function isChange(event: { readonly event_type: string }): boolean {
  return changes.has(event.event_type);
}

/** The history, session by session. */
export function bySession<Item extends { readonly session_id: string }>(items: readonly Item[]): Map<string, Item[]> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const group = groups.get(item.session_id);
    if (group === undefined) groups.set(item.session_id, [item]);
    else group.push(item);
  }
  return groups;
}
