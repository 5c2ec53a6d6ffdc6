/** What may be asked of the history. */

/** Which events; what is undefined does not matter. */
export interface EventFilter {
  /** As they are stored, with the prefix. */
  readonly types?: readonly string[] | undefined;
  /** UUIDs; of one session's events all are of that session. */
  readonly sessionIds?: readonly string[] | undefined;
  /** This time or later; RFC 3339, as is `createdBefore`. */
  readonly createdAfter?: string | undefined;
  /** Before this time. */
  readonly createdBefore?: string | undefined;
  /** Of the updates, only those that change the reader's word for the phase, or only those that don't. */
  readonly updates?: { readonly words: Readonly<Record<string, string>>; readonly change: boolean } | undefined;
}

export interface EventQuery extends EventFilter {
  readonly namespace: string;
  /** Only events after this position. */
  readonly after?: number | undefined;
  readonly descending: boolean;
  /** How many at most; the page may end earlier when they are heavy, or hard to find. */
  readonly limit: number;
  /** From the page before; undefined: the first page. */
  readonly place?: EventPlace | undefined;
}

export interface SessionEventQuery extends EventQuery {
  /** A UUID. */
  readonly sessionId: string;
  readonly includeDeleted: boolean;
}

/** A place between events, in the order of a query: just after this one. */
export interface EventPlace {
  /** The event's position; its sequence among the events of one session. */
  readonly at: number;
  /** Where the order is that of time. */
  readonly time?: TimePlace | undefined;
}

export interface TimePlace {
  /** The event's; RFC 3339, with microseconds. */
  readonly createdAt: string;
  /**
   * All pages are of what was settled when the first was read: up to this position. What is settled meanwhile may have
   * been created earlier than what was told already.
   */
  readonly upTo: number;
}

/**
 * Whether the order of the feed is that of time: a range of time is asked for, and neither sessions nor what comes after
 * a position. (Who follows by position must get events in that order, or would miss some.)
 */
export function isByTime({
  createdAfter,
  createdBefore,
  sessionIds,
  after,
}: Pick<EventQuery, "createdAfter" | "createdBefore" | "sessionIds" | "after">): boolean {
  return sessionIds === undefined && after === undefined && (createdAfter ?? createdBefore) !== undefined;
}
