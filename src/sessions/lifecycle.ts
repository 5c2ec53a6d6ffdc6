/**
 * The state machine of a session. One stored word, the phase; the status that clients parse follows from it.
 *
 *   pending ──► starting ──► running ⇄ ready ⇄ busy ⇄ waiting_input          status: active
 *                   │           │                        │
 *                   │           ├──► stopping ───────────┤
 *                   ▼           ▼                        ▼
 *               paused / idle / stopped  ◄── set aside, can go on            status: paused
 *                   │           │
 *                   ▼           ▼
 *               completed   failed / crashed / expired / timed_out           status: completed, crashed
 *
 * Pure: it knows no SQL, no HTTP and no clock. The database's generated column, the guard of every update, the OpenAPI
 * enums and the tests are made from the tables below.
 */

export const statuses = ["active", "paused", "completed", "crashed"] as const;
export type Status = (typeof statuses)[number];

export const phases = [
  "pending",
  "starting",
  "running",
  "ready",
  "busy",
  "waiting_input",
  "stopping",
  "paused",
  "idle",
  "stopped",
  "completed",
  "failed",
  "crashed",
  "expired",
  "timed_out",
] as const;
export type Phase = (typeof phases)[number];

/** The status each phase is shown as; the generated column `sessions.status` says the same. */
export const statusOf: Readonly<Record<Phase, Status>> = {
  pending: "active",
  starting: "active",
  running: "active",
  ready: "active",
  busy: "active",
  waiting_input: "active",
  stopping: "active",
  paused: "paused",
  idle: "paused",
  stopped: "paused",
  completed: "completed",
  failed: "crashed",
  crashed: "crashed",
  expired: "crashed",
  timed_out: "crashed",
};

/** What each phase means, for people and for the OpenAPI file. */
export const phaseMeaning: Readonly<Record<Phase, string>> = {
  pending: "accepted, nobody owns it yet",
  starting: "its runtime is coming up",
  running: "live (what a plain POST gives)",
  ready: "live, waiting for input",
  busy: "live, working",
  waiting_input: "live, blocked on a person (an approval, an answer)",
  stopping: "asked to stop, finishing",
  paused: "paused on request",
  idle: "set aside after inactivity; resumes by itself on input",
  stopped: "stopped; can be started again",
  completed: "finished normally",
  failed: "ended in an error that was reported",
  crashed: "died without a word (its lease ran out, or a client said so)",
  expired: "inactive for too long",
  timed_out: "ran longer than it was allowed to",
};

/** What each status means, for people and for the OpenAPI file. */
export const statusMeaning: Readonly<Record<Status, string>> = {
  active: "live, or on its way to be",
  paused: "set aside; can be resumed",
  completed: "finished normally",
  crashed: "ended in an error, died, or ran out of time",
};

/** The phases a session may be created in; `running` when the client does not say. */
export const initialPhases = ["pending", "starting", "running", "ready"] as const satisfies readonly Phase[];

/** Phases with an owner at work. Entering one starts an attempt's clock. */
export const livePhases = [
  "starting",
  "running",
  "ready",
  "busy",
  "waiting_input",
  "stopping",
] as const satisfies readonly Phase[];

/** Phases in which the work is over, well or badly. */
export const endedPhases = [
  "completed",
  "failed",
  "crashed",
  "expired",
  "timed_out",
] as const satisfies readonly Phase[];

const crashes = endedPhases.filter((phase) => phase !== "completed");

/** Where work that was set aside may go: paused, idle and stopped differ in how they came about, not in what follows. */
const afterPause: readonly Phase[] = [
  "pending",
  "starting",
  "running",
  "ready",
  "busy",
  "completed",
  "failed",
  "crashed",
  "expired",
];

/**
 * From the phase on the left, those a change may go to. Total: a phase without a row does not compile. What is missing
 * is refused with `invalid_transition`; `expired`, `timed_out` and `completed` are left by their own verbs alone.
 */
export const transitions: Readonly<Record<Phase, readonly Phase[]>> = {
  pending: ["starting", "running", "ready", "stopped", "failed", "expired"],
  starting: ["running", "ready", "busy", "stopping", "stopped", ...crashes],
  running: ["ready", "busy", "waiting_input", "stopping", "paused", "idle", "stopped", "completed", ...crashes],
  ready: ["running", "busy", "waiting_input", "stopping", "paused", "idle", "stopped", "completed", ...crashes],
  busy: ["running", "ready", "waiting_input", "stopping", "paused", "stopped", "completed", ...crashes],
  waiting_input: ["running", "ready", "busy", "stopping", "paused", "stopped", "completed", ...crashes],
  stopping: ["stopped", "completed", "failed", "crashed", "timed_out"],
  paused: afterPause,
  idle: afterPause,
  stopped: afterPause,
  completed: [],
  failed: ["pending", "starting", "running", "ready", "completed"],
  crashed: ["pending", "starting", "running", "ready", "completed"],
  expired: [],
  timed_out: [],
};

/** The phases from which `to` may be entered: what guards the update in the database. */
export function phasesThatMayEnter(to: Phase): Phase[] {
  return phases.filter((from) => transitions[from].includes(to));
}
