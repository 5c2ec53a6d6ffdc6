/** Why a session is where it is, on the wire. */

import { z } from "zod";
import { phaseMeaning, phases } from "../../sessions/lifecycle.ts";
import { enumMeta } from "./common.ts";
import { exampleId } from "./session-examples.ts";
import { time } from "./session-fields.ts";
import { phaseSchema, statusSchema } from "./state-words.ts";

const seconds = (description: string) => z.number().meta({ description, examples: [12.345] });

const lease = z
  .object({
    owner: z.string().describe("The worker that took it."),
    expires_at: time(
      "Until when it is good. After a time in which nobody could renew it this is later than the session's " +
        "`lease_expires_at`.",
    ),
    live: z.boolean().describe("Whether it is good still; if not, the next sweep crashes the session."),
    seconds_left: seconds("Until it runs out; negative when it has."),
  })
  .meta({ id: "DiagnosedLease", description: "Who holds a session, and until when." });

const activityKinds = {
  change: "a change of the session",
  heartbeat: "a heartbeat of its worker",
  event: "an event that was posted",
} as const;

const activity = z
  .object({
    at: time("When it was."),
    seconds_ago: seconds("How long ago that was."),
    kind: z
      .enum(Object.keys(activityKinds) as [keyof typeof activityKinds, ...(keyof typeof activityKinds)[]])
      .meta({ id: "ActivityKind", ...enumMeta("What was last heard of a session.", activityKinds) }),
  })
  .meta({ id: "DiagnosedActivity", description: "What was last heard of a session's agent." });

const outcomes = { ...phaseMeaning, deleted: "deleted, softly" };

const timer = z
  .object({
    name: z.string().meta({
      description: "The field that sets it: `timeout_seconds`, `expires_at`, …; or `lease`.",
      examples: ["timeout_seconds"],
    }),
    outcome: z
      .enum([...phases, "deleted"])
      .meta({ id: "TimerOutcome", ...enumMeta("What a timer makes of a session.", outcomes) }),
    due_at: time("When it fires, unless something happens that moves it."),
    seconds_left: seconds("Until then; negative when the next sweep is to act on it."),
  })
  .meta({ id: "DiagnosedTimer", description: "A timer of a session that runs." });

const claim = z
  .object({
    claimable: z.boolean().describe("Whether `POST /sessions/claim` may hand it out now."),
    claimable_at: time("Since when it may be claimed, or from when; null when it is not to be claimed.").nullable(),
    scheduled_at: time("When its client wants it to be claimed at the earliest.").nullable(),
    next_attempt_at: time("When it may be claimed again after a crash.").nullable(),
  })
  .meta({ id: "DiagnosedClaim", description: "Whether workers may claim a session." });

const transition = z
  .object({
    to: phaseSchema,
    verbs: z
      .array(z.string())
      .describe(
        "The actions, `POST /sessions/{id}/<verb>`, that lead there; with none a change of `phase` does. `recover` of a " +
          "session that is `expired` or `timed_out` needs `force`; `stop` leads to `stopping` for who does not hold the lease.",
      ),
  })
  .meta({ id: "OpenTransition", description: "A phase that a session may go to from where it is." });

const sweep = z
  .object({
    at: time("When it was.").nullable(),
    seconds_ago: seconds("How long ago that was.").nullable(),
    overdue: z.boolean().describe("Whether sweeps have stopped: then no timer fires."),
  })
  .meta({ id: "DiagnosedSweep", description: "When any process last looked for sessions that are due; null: never." });

const exampleTimers = [
  { name: "lease", outcome: "crashed" as const, due_at: "2026-01-31T12:30:12.345678Z", seconds_left: 12.222 },
  { name: "timeout_seconds", outcome: "timed_out" as const, due_at: "2026-01-31T13:30:00.123456Z", seconds_left: 3600 },
];

const exampleDiagnosis = {
  id: exampleId,
  summary:
    "Running for 3 h; held by worker-7, whose lease runs out in 12 s unless it is renewed; then the session crashes and, " +
    "with 2 of 3 attempts left, may be claimed again 5 s later. It times out in 1 h (timeout_seconds).",
  checked_at: "2026-01-31T12:30:00.123456Z",
  status: "active" as const,
  phase: "running" as const,
  phase_since: "2026-01-31T09:30:00.123456Z",
  phase_seconds: 10_800,
  status_reason: null,
  exit_requested: false,
  attempt: 1,
  max_attempts: 3,
  auto_recover: true,
  lease: { owner: "worker-7", expires_at: "2026-01-31T12:30:12.345678Z", live: true, seconds_left: 12.222 },
  last_activity: { at: "2026-01-31T12:29:42.345678Z", seconds_ago: 17.778, kind: "heartbeat" as const },
  timers: exampleTimers,
  next_timer: exampleTimers[0] ?? null,
  claim: { claimable: false, claimable_at: null, scheduled_at: null, next_attempt_at: null },
  transitions: [
    { to: "busy" as const, verbs: [] },
    { to: "paused" as const, verbs: ["pause"] },
    { to: "completed" as const, verbs: ["complete"] },
  ],
  last_sweep: { at: "2026-01-31T12:29:59.623456Z", seconds_ago: 0.5, overdue: false },
};

export const diagnosisSchema = z
  .object({
    id: z.string().meta({ description: "The session's id.", format: "uuid", examples: [exampleId] }),
    summary: z.string().describe("All of it in a few sentences, for people: their wording may change."),
    checked_at: time("As of when all this is told, by the database's clock."),
    status: statusSchema,
    phase: phaseSchema,
    phase_since: time("Since when it is in that phase."),
    phase_seconds: seconds("How long that is."),
    status_reason: z.string().nullable().describe("Why it entered the phase, if anybody said."),
    exit_requested: z.boolean().describe("Whether its worker has been asked to come to an end."),
    attempt: z.int().describe("Which attempt this is."),
    max_attempts: z.int().describe("How many it has until a crash is for good."),
    auto_recover: z.boolean().describe("Whether it may be claimed again by itself after a crash."),
    lease: lease.nullable(),
    last_activity: activity,
    timers: z.array(timer).describe("The timers that run, the next one first."),
    next_timer: timer.nullable(),
    claim,
    transitions: z.array(transition).describe("Where it may go from here."),
    last_sweep: sweep,
  })
  .meta({
    id: "Diagnosis",
    description: "Why a session is where it is, and what becomes of it. Durations are in seconds, to the millisecond.",
    namedExamples: { held: { summary: "A session that a worker holds", value: exampleDiagnosis } },
  });

export type DiagnosisAnswer = z.input<typeof diagnosisSchema>;
