/** Sessions on the wire: what comes in, what goes out. */

import { z } from "zod";
import { initialPhases, type Phase, phaseMeaning, phases, statuses, statusMeaning } from "../../sessions/lifecycle.ts";
import { knownWords, readWord, type Word, type WordField } from "../../sessions/vocabulary.ts";

export const runtimeBackends = ["local", "kubernetes", "unknown"] as const;

const backendMeaning: Readonly<Record<(typeof runtimeBackends)[number], string>> = {
  local: "a process or a container on somebody's machine",
  kubernetes: "a pod",
  unknown: "the client did not say",
};

function meanings<Value extends string>(of: Readonly<Record<Value, string>>): string {
  return Object.entries(of)
    .map(([value, meaning]) => `\`${value}\`: ${meaning}`)
    .join("; ");
}

const exampleAgent = "550e8400-e29b-41d4-a716-446655440000";
const exampleContext = { working_directory: "/project", current_task: "Implement Steam Modal" };
const exampleCheckpoint = { step: 5, resume_prompt: "Continue from step 5" };
const exampleMetadata = { terminal_id: "term-123", pid: 12345 };

/**
 * A free-form JSON object. Its text goes to the database and back as it is; this only says that it is an object.
 * (z.record would walk it, and takes a `constructor` key for something else than data.)
 */
const document = (description: string, example: object) =>
  z
    .unknown()
    .refine((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
      error: "must be a JSON object",
    })
    .meta({ description, type: "object", additionalProperties: true, examples: [example] });

const contextSchema = document("What the agent is doing: any JSON object.", exampleContext);
const checkpointSchema = document("Where to carry on from: any JSON object.", exampleCheckpoint);
const metadataSchema = document("Where it runs: container_id, pod_name, terminal_id, pid, …", exampleMetadata);

const time = (description: string) =>
  z.string().meta({ description, format: "date-time", examples: ["2026-01-31T09:30:00.123456Z"] });

/** Any 8-4-4-4-12 hexadecimal, the nil UUID too: no registry of agents is asked. */
const uuid = (description: string) =>
  z
    .guid({ error: "must be a UUID" })
    .overwrite((id) => id.toLowerCase())
    .meta({ description, format: "uuid", examples: [exampleAgent] });

const status = z
  .enum(statuses)
  .meta({ id: "SessionStatus", description: meanings(statusMeaning), "x-enumDescriptions": statusMeaning });

const phase = z
  .enum(phases)
  .meta({ id: "SessionPhase", description: meanings(phaseMeaning), "x-enumDescriptions": phaseMeaning });

const runtimeBackend = z
  .enum(runtimeBackends, { error: `must be one of ${runtimeBackends.join(", ")}` })
  .meta({ id: "RuntimeBackend", description: meanings(backendMeaning), "x-enumDescriptions": backendMeaning });

export const sessionSchema = z
  .object({
    id: uuid("Made by the service; time-ordered (UUID version 7)."),
    agent_id: uuid("The agent whose session it is; fixed."),
    session_type: z.string().meta({ description: "conversation, development, task, batch, or any other word; fixed." }),
    status,
    phase,
    context: contextSchema,
    checkpoint: checkpointSchema.nullable(),
    runtime_backend: runtimeBackend,
    runtime_metadata: metadataSchema,
    created_at: time("When it was created."),
    updated_at: time("When it last changed; always moves forward."),
    version: z.int().meta({ description: "1, and one more with each change; also the ETag.", examples: [1] }),
    attempt: z.int().meta({ description: "1, and one more with each recovery from a crash.", examples: [1] }),
    started_at: time("When it first went live.").nullable(),
    ended_at: time("When it completed or crashed.").nullable(),
    last_activity_at: time("When its agent was last heard of."),
  })
  .meta({
    id: "Session",
    description: "What an agent is doing, where, and how far it got.",
    examples: [
      {
        id: "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10",
        agent_id: exampleAgent,
        session_type: "development",
        status: "active",
        phase: "running",
        context: exampleContext,
        checkpoint: exampleCheckpoint,
        runtime_backend: "local",
        runtime_metadata: exampleMetadata,
        created_at: "2026-01-31T09:30:00.123456Z",
        updated_at: "2026-01-31T09:41:12.654321Z",
        version: 2,
        attempt: 1,
        started_at: "2026-01-31T09:30:00.123456Z",
        ended_at: null,
        last_activity_at: "2026-01-31T09:41:12.654321Z",
      },
    ],
  });

export const sessionListSchema = z
  .array(sessionSchema)
  .meta({ id: "SessionList", description: "A page of sessions, newest first." });

/** A client's word for a state, in any case, read into the phases that it stands for. */
function word(field: WordField, description: string, accepts?: (word: Word) => boolean) {
  const words = knownWords(field).filter((known) => accepts?.(readWord(field, known) as Word) ?? true);
  return z
    .string({ error: `must be one of ${words.join(", ")}` })
    .transform((text, context) => {
      const read = readWord(field, text);
      if (read !== undefined && words.includes(read.word)) return read;
      context.addIssue({ code: "custom", message: `must be one of ${words.join(", ")}` });
      return z.NEVER;
    })
    .meta({ description, enum: words });
}

const startsIn = (read: Word) => (initialPhases as readonly Phase[]).includes(read.entry);

const agent = z.union([
  uuid("The agent's id."),
  z.looseObject({ id: uuid("The agent's id.") }).meta({ id: "Agent", description: "An agent of the session." }),
]);

export const createSessionSchema = z
  .object({
    agent_id: uuid("The agent whose session it is. Needed, unless agent_ids or agents names one.").nullish(),
    agent_ids: z
      .array(uuid("An agent's id."))
      .nullish()
      .meta({ description: "In place of agent_id: the first is taken." }),
    agents: z.array(agent).nullish().meta({ description: "In place of agent_id: the first is taken." }),
    session_type: z
      .string()
      .min(1)
      .max(255)
      .nullish()
      .meta({ description: "conversation (the default), development, task, batch, or any other word." }),
    status: word("status", "What it starts as: active, unless said otherwise.", startsIn).nullish(),
    phase: word("phase", "What it starts as, finer than status: running, unless said otherwise.", startsIn).nullish(),
    context: contextSchema.nullish(),
    checkpoint: checkpointSchema.nullish(),
    runtime_backend: runtimeBackend.nullish(),
    runtime_metadata: metadataSchema.nullish(),
  })
  .superRefine((body, context) => {
    if (firstAgent(body) === undefined) {
      context.addIssue({ code: "custom", path: ["agent_id"], message: "is required: the UUID of the session's agent" });
    }
  })
  .meta({
    id: "CreateSession",
    description: "A new session. Unknown keys are ignored, unless the request says Prefer: handling=strict.",
    examples: [
      {
        agent_id: exampleAgent,
        session_type: "development",
        context: exampleContext,
        runtime_backend: "local",
        runtime_metadata: exampleMetadata,
      },
    ],
  });

interface NamesAgents {
  readonly agent_id?: string | null | undefined;
  readonly agent_ids?: readonly string[] | null | undefined;
  readonly agents?: readonly (string | { readonly id: string })[] | null | undefined;
}

/** The agent that a body names in one of three ways; undefined when it names none. */
export function firstAgent({ agent_id, agent_ids, agents }: NamesAgents): string | undefined {
  const first = agents?.[0];
  return agent_id ?? agent_ids?.[0] ?? (typeof first === "object" ? first.id : first);
}

export const updateSessionSchema = z
  .object({
    status: word("status", "What the session shall be.").nullish(),
    phase: word("phase", "What the session shall be, finer than status.").nullish(),
    context: contextSchema.nullish().describe("Replaces the context; null leaves it."),
    checkpoint: checkpointSchema.nullish().describe("Replaces the checkpoint; null clears it."),
    runtime_backend: runtimeBackend.nullish(),
    runtime_metadata: metadataSchema.nullish().describe("Replaces the metadata; null leaves it."),
  })
  .superRefine((body, context) => {
    if (body.status && body.phase && !body.status.means.includes(body.phase.entry)) {
      context.addIssue({
        code: "custom",
        path: ["phase"],
        message: `is not a phase of the status ${body.status.word}`,
      });
    }
  })
  .meta({
    id: "UpdateSession",
    description:
      "What to change; what is absent stays. Unknown keys are ignored, unless the request asks for strictness.",
    examples: [{ status: "paused", checkpoint: exampleCheckpoint }],
  });

const largestPage = 1_000;

export const listQuerySchema = z.object({
  agent_id: z
    .guid({ error: "must be a UUID" })
    .optional()
    .meta({
      description: "Only this agent's sessions.",
      format: "uuid",
      examples: [exampleAgent],
    }),
  limit: z
    .string({ error: "must be given once" })
    .refine((text) => /^\d+(e\d+)?$/i.test(text) && Number(text) > 0, {
      error: `must be a whole number from 1 to ${largestPage}`,
    })
    .transform((text) => Math.min(Number(text), largestPage))
    .optional()
    .meta({
      description: `How many sessions at most; 100 unless given, and never more than ${largestPage}: the next page is linked.`,
      examples: ["20"],
    }),
  cursor: z
    .string({ error: "must be given once" })
    .optional()
    .meta({ description: "Where the page starts: from the Link header of the page before." }),
});

export const sessionIdSchema = z.object({ id: uuid("The session's id.") });
