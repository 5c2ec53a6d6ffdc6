/** Leases on the wire: what a worker says of the one it has or wants, and what it is told of its session. */

import { z } from "zod";
import { defaultLeaseSeconds, leaseActions } from "../../sessions/lease.ts";
import { longestLeaseSeconds } from "../../sessions/timers.ts";
import { enumMeta, oneOf } from "./common.ts";
import { exampleId, exampleSession } from "./session-examples.ts";
import { leaseTokenShape, time } from "./session-fields.ts";
import { phaseSchema, statusSchema } from "./state-words.ts";

const workerName = /^[^\p{C}]{1,255}$/u;
const workerError = "must be the worker's name: 1 to 255 printable characters";

/** A worker's name. */
export const workerId = (description: string) =>
  z
    .string({ error: workerError })
    // No pattern: few tools know the properties of Unicode.
    .refine((name) => workerName.test(name), { error: workerError })
    .meta({ description, minLength: 1, maxLength: 255, examples: ["worker-7"] });

const secondsError = {
  error:
    `must be a whole number of seconds from 1 to ${longestLeaseSeconds}: a worker that needs longer renews its lease by ` +
    "heartbeats, and one that has died holds up its sessions for so long",
};

export const leaseSeconds = z
  .int(secondsError)
  .min(1, secondsError)
  .max(longestLeaseSeconds, secondsError)
  .nullish()
  .meta({
    description:
      "For how long the lease is good, from now and from each heartbeat on. Unless it is said: as long as before, or " +
      `${defaultLeaseSeconds} s.`,
    examples: [defaultLeaseSeconds],
  });

const action = z.enum(leaseActions, { error: oneOf(leaseActions) }).meta({
  id: "LeaseAction",
  ...enumMeta("What becomes of the lease.", {
    take: "the worker gets it, if nobody else has it; one that has it already gets a new token, unless it names its own",
    renew: "its time starts again; needs the token",
    release: "nobody has it any more, and the session stays in its phase; needs the token",
    hand_over: "another worker gets it, with a new token; needs the token",
  }),
});

export const changeLeaseSchema = z
  .object({
    action: action.nullish().meta({ description: "`take`, unless said otherwise.", examples: ["take"] }),
    worker_id: workerId("Who takes the lease; for the other actions, who is believed to have it.").nullish(),
    to_worker_id: workerId("Who gets the lease that is handed over.").nullish(),
    lease_seconds: leaseSeconds,
    ...leaseTokenShape,
  })
  .superRefine(({ action: asked, worker_id: worker, to_worker_id: other }, context) => {
    const needed = (asked ?? "take") === "take" ? { worker_id: worker } : {};
    const neededToo = asked === "hand_over" ? { to_worker_id: other } : {};
    for (const [name, value] of Object.entries({ ...needed, ...neededToo })) {
      if (value == null) context.addIssue({ code: "custom", path: [name], message: `is required: ${workerError}` });
    }
  })
  .meta({
    id: "ChangeLease",
    description: "What a worker wants of the lease.",
    namedExamples: {
      take: { summary: "Take it", value: { worker_id: "worker-7", lease_seconds: 60 } },
      release: { summary: "Release it", value: { action: "release", lease_token: 7 } },
      hand_over: { summary: "Hand it over", value: { action: "hand_over", lease_token: 7, to_worker_id: "worker-8" } },
    },
  });

export const heartbeatSchema = z.object({ lease_seconds: leaseSeconds, ...leaseTokenShape }).meta({
  id: "Heartbeat",
  description: "All of it optional.",
  namedExamples: { renew: { summary: "Renew the lease", value: { lease_token: 7 } } },
});

const { id, status, phase, version, attempt, last_activity_at: lastActivityAt } = exampleSession;

export const leaseSchema = z
  .object({
    id: z.string().meta({ description: "The session's id.", format: "uuid", examples: [exampleId] }),
    status: statusSchema,
    phase: phaseSchema,
    version: z.int().describe("The session's version."),
    attempt: z.int().describe("The session's attempt."),
    exit_requested: z.boolean().describe("Whether the worker is asked to come to an end."),
    lease_owner: z.string().nullable().describe("The worker that has the lease."),
    lease_token: z.int().nullable().describe("The fencing token; null unless the lease is the reader's."),
    lease_expires_at: time("Until when the lease is good, unless it is renewed.").nullable(),
    last_activity_at: time("When the session's agent was last heard of."),
  })
  .meta({
    id: "Lease",
    description: "What a worker needs to know of a session that it works on.",
    namedExamples: {
      lease: {
        summary: "A lease",
        value: {
          id,
          status,
          phase,
          version,
          attempt,
          exit_requested: false,
          lease_owner: "worker-7",
          lease_token: 7,
          lease_expires_at: "2026-01-31T09:42:12.654321Z",
          last_activity_at: lastActivityAt,
        },
      },
    },
  });
