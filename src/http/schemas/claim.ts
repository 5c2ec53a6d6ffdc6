/** Claims on the wire: what a worker asks for, and what it gets; and what it leaves behind at its end. */

import { z } from "zod";
import { leaseSeconds, workerId } from "./lease.ts";
import { runtimeBackend, sessionSchema } from "./session.ts";
import { exampleAgent, exampleId, exampleSession } from "./session-examples.ts";
import { labels, uuid } from "./session-fields.ts";

const filter = z
  .strictObject({
    agent_id: uuid("Only sessions of this agent.").nullish(),
    session_type: z
      .string()
      .min(1)
      .max(255)
      .nullish()
      .meta({ description: "Only sessions of this type.", examples: ["task"] }),
    runtime_backend: runtimeBackend.nullish().describe("Only sessions that run there."),
    labels: labels.nullish().describe("Only sessions that have all of these labels."),
  })
  .meta({
    id: "ClaimFilter",
    description: "Which sessions will do: any, unless it says otherwise.",
  });

const longestWait = 60;
const waitError = { error: `must be a number of seconds from 0 to ${longestWait}` };

/** Strict: a filter that is misspelt must not become no filter. */
export const claimSchema = z
  .strictObject({
    worker_id: workerId("Who asks; the lease is given to this name."),
    lease_seconds: leaseSeconds,
    filter: filter.nullish(),
    wait_seconds: z
      .number(waitError)
      .min(0, waitError)
      .max(longestWait, waitError)
      .nullish()
      .meta({ description: "How long to wait for a session when none is there: not at all, else.", examples: [30] }),
  })
  .meta({
    id: "ClaimSession",
    description: "A worker that wants a session. A key that is not known is refused.",
    namedExamples: {
      any: { summary: "Any session", value: { worker_id: "worker-7" } },
      filtered: {
        summary: "One of some, with patience",
        value: {
          worker_id: "worker-7",
          lease_seconds: 60,
          filter: { agent_id: exampleAgent, labels: { team: "search" } },
          wait_seconds: 30,
        },
      },
    },
  });

export const claimedSchema = sessionSchema
  .extend({
    lease_token: z
      .int()
      .meta({ description: "The fencing token of the lease: to be named in every write.", examples: [7] }),
  })
  .meta({
    id: "ClaimedSession",
    description: "A session, and the token of the lease that its worker got with it.",
    namedExamples: {
      claimed: {
        summary: "A session that was claimed",
        value: {
          ...exampleSession,
          lease_owner: "worker-7",
          lease_expires_at: "2026-01-31T09:42:12.654321Z",
          lease_token: 7,
        },
      },
    },
  });

/** What no worker is called is answered by the route: a path that is wrong names nothing. */
export const workerPathSchema = z
  .object({ worker_id: z.string().meta({ description: "The worker's name.", examples: ["worker-7"] }) })
  .meta({ id: "WorkerPath" });

export const workerNameSchema = workerId("The worker's name.");

export const pauseAllSchema = z
  .object({
    reason: z
      .string()
      .min(1)
      .max(1_024)
      .nullish()
      .meta({ description: "Why: `worker_shutdown`, unless said otherwise.", examples: ["worker_shutdown"] }),
    auto_resume: z
      .boolean()
      .nullish()
      .meta({ description: "Whether the sessions may be claimed again at once: yes, unless false.", examples: [true] }),
  })
  .meta({
    id: "PauseAll",
    description: "All of it optional.",
    namedExamples: { shutdown: { summary: "A shutdown", value: { reason: "worker_shutdown" } } },
  });

/** How many ids an answer has at most. */
export const mostIds = 1_000;

export const pausedAllSchema = z
  .object({
    paused: z.int().describe("How many sessions were set aside."),
    sessions: z.array(z.string().meta({ format: "uuid" })).describe(`Their ids: the first ${mostIds}.`),
  })
  .meta({
    id: "PausedAll",
    description: "What a worker has left to others.",
    namedExamples: { one: { summary: "One session", value: { paused: 1, sessions: [exampleId] } } },
  });
