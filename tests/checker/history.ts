/** The history against the rows: 1 to n for every session, and folding it gives the row. */

import { statusOf } from "../../src/sessions/lifecycle.ts";
import { bySession, type EventEvidence, type History, isChange, type SessionEvidence } from "./evidence.ts";

/** What the events of a session say that it is. Undefined: the history does not reach back far enough to tell. */
interface Folded {
  readonly phase: string | undefined;
  readonly status: string | undefined;
  readonly version: number;
  readonly deleted: boolean | undefined;
}

/** Every violation, in a sentence. */
export function historyViolations(history: History): string[] {
  const rows = new Map(history.sessions.map((row) => [row.id, row]));
  const groups = bySession(history.events);
  const silent = history.sessions
    .filter(({ id, purging }) => !groups.has(id) && !purging && history.horizon === 0)
    .map(({ id }) => `${id} has a row and no history.`);
  const told = [...groups].flatMap(([id, events]) => {
    const row = rows.get(id);
    if (row === undefined) return purgedViolations(id, events);
    return row.purging ? [] : sessionViolations(row, events, history.horizon > 0);
  });
  return [...silent, ...told, ...sharedIds(history.events)];
}

/** A session without a row has been purged: one event is left, and says nothing. */
function purgedViolations(id: string, events: readonly EventEvidence[]): string[] {
  const [event] = events;
  if (event === undefined || events.length > 1 || event.event_type !== "session.purged") {
    const types = events.map(({ event_type: type }) => type).join(", ");
    return [`${id} has no row; what is left of it is ${types} instead of session.purged alone.`];
  }
  if (Object.keys(event.payload).length === 0) return [];
  return [`${id} was purged, and its last event still says ${JSON.stringify(event.payload)}.`];
}

function sessionViolations(row: SessionEvidence, events: readonly EventEvidence[], isPruned: boolean): string[] {
  const { id } = row;
  const amiss: string[] = [];
  let state: Folded | undefined;
  let sequence = isPruned ? (events[0]?.sequence ?? 1) - 1 : 0;
  for (const event of events) {
    if (event.sequence !== sequence + 1) {
      amiss.push(`${id}: the history goes from ${sequence} to ${event.sequence}.`);
    }
    sequence = event.sequence;
    const before = state ?? (isPruned && event.sequence > 1 ? unknownBefore(event) : undefined);
    amiss.push(...stepViolations(id, before, event));
    const agentId = event.payload["agent_id"];
    if (isChange(event) && agentId !== row.agent_id) {
      amiss.push(`${id}: event ${sequence} is of agent ${String(agentId)}, the row of ${row.agent_id}.`);
    }
    state = fold(before, event);
  }
  if (sequence !== row.last_sequence) {
    amiss.push(`${id}: the history ends with ${sequence}, the row says ${row.last_sequence}.`);
  }
  for (const field of ["phase", "status", "version", "deleted"] as const) {
    if (state?.[field] !== undefined && state[field] !== row[field]) {
      amiss.push(`${id}: folding the history gives ${field} ${state[field]}, the row has ${row[field]}.`);
    }
  }
  return amiss;
}

/** What is known of a session whose first events have been removed because of their age. */
function unknownBefore(event: EventEvidence): Folded {
  const version = event.session_version - Number(isChange(event));
  return { phase: undefined, status: undefined, version, deleted: undefined };
}

function fold(before: Folded | undefined, { event_type: type, session_version, payload }: EventEvidence): Folded {
  const phase = text(payload["phase"]) ?? before?.phase;
  const status = text(payload["status"]) ?? before?.status;
  const deleted = before?.deleted;
  const version = session_version;
  switch (type) {
    case "session.created":
      return { phase, status: statusNamed(phase), version, deleted: false };
    case "session.updated":
      return { phase, status, version, deleted };
    case "session.deleted":
      return { phase, status, version, deleted: true };
    case "session.restored":
      return { phase, status, version, deleted: false };
    default:
      return { phase: before?.phase, status: before?.status, version, deleted };
  }
}

/** Whether an event can follow what was before it, and says the truth about it. */
function stepViolations(id: string, before: Folded | undefined, event: EventEvidence): string[] {
  const { sequence, event_type: type, session_version: version, payload } = event;
  const at = `${id}: event ${sequence}, ${type},`;
  const amiss: string[] = [];
  if ((before === undefined) !== (type === "session.created")) {
    amiss.push(`${at} ${before === undefined ? "begins the history" : "stands in the middle of the history"}.`);
  }
  const expected = (before?.version ?? 0) + Number(isChange(event));
  if (version !== expected) amiss.push(`${at} has version ${version} where ${expected} follows.`);
  if (type === "session.purged") amiss.push(`${at} is there, and so is the row.`);
  if (type === "session.deleted" && before?.deleted === true) amiss.push(`${at} deletes what is deleted.`);
  if (type === "session.restored" && before?.deleted === false) amiss.push(`${at} restores what is not deleted.`);
  if (type === "session.updated" && before?.deleted === true) amiss.push(`${at} changes what is deleted.`);
  if (before === undefined || !isChange(event)) return amiss;
  for (const field of ["phase", "status"] as const) {
    const now = text(payload[field]);
    if (now === undefined) amiss.push(`${at} does not say the ${field}.`);
    else if (before[field] !== undefined) amiss.push(...fieldViolations(at, field, before[field], now, event));
  }
  return amiss;
}

/** A field that moved is among `updates`, and nothing else is; a phase that moved is told by `from` and `to`. */
function fieldViolations(at: string, field: string, before: string, now: string, event: EventEvidence): string[] {
  const { event_type: type, payload } = event;
  const moved = before !== now;
  if (type !== "session.updated" && type !== "session.restored")
    return moved ? [`${at} moves the ${field} from ${before} to ${now}.`] : [];
  const updates = Array.isArray(payload["updates"]) ? payload["updates"] : [];
  const amiss: string[] = [];
  if (updates.includes(field) !== moved) {
    amiss.push(`${at} goes from ${field} ${before} to ${now}, and lists ${JSON.stringify(updates)}.`);
  }
  if (field !== "phase") return amiss;
  const [from, to] = [payload["from"], payload["to"]];
  if (from !== (moved ? before : undefined) || to !== (moved ? now : undefined)) {
    amiss.push(`${at} goes from phase ${before} to ${now}, and says from ${String(from)} to ${String(to)}.`);
  }
  return amiss;
}

function sharedIds(events: readonly EventEvidence[]): string[] {
  const seen = new Set<string>();
  return events.flatMap(({ event_id: id }) => {
    if (seen.has(id)) return [`Two events of the history have the id ${id}.`];
    seen.add(id);
    return [];
  });
}

function statusNamed(phase: string | undefined): string | undefined {
  return Object.entries(statusOf).find(([name]) => name === phase)?.[1];
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
