/** Sessions on the wire: what comes in, what goes out. */

import { z } from "zod";
import { initialPhases, type Phase, phaseMeaning, phases, statuses, statusMeaning } from "../../sessions/lifecycle.ts";
import { knownWords, readWord, type Word, type WordField } from "../../sessions/vocabulary.ts";
import { enumMeta } from "./common.ts";
import {
  createExamples,
  exampleAgent,
  exampleCheckpoint,
  exampleContext,
  exampleId,
  exampleMetadata,
  exampleSession,
  updateExamples,
} from "./session-examples.ts";

const runtimeBackends = ["local", "kubernetes", "unknown"] as const;

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
const uuid = (description: string, example = exampleAgent) =>
  z
    .guid({ error: "must be a UUID" })
    .overwrite((id) => id.toLowerCase())
    .meta({ description, format: "uuid", examples: [example] });

const oneOf = (values: readonly string[]) => `must be one of ${values.join(", ")}`;

const statusSchema = z
  .enum(statuses)
  .meta({ id: "SessionStatus", ...enumMeta("What has become of the session.", statusMeaning) });

export const phaseSchema = z
  .enum(phases, { error: oneOf(phases) })
  .meta({ id: "SessionPhase", ...enumMeta("Where the session is, finer than its status.", phaseMeaning) });

const runtimeBackend = z.enum(runtimeBackends, { error: oneOf(runtimeBackends) }).meta({
  id: "RuntimeBackend",
  ...enumMeta("Where the agent runs.", {
    local: "a process or a container on somebody's machine",
    kubernetes: "a pod",
    unknown: "the client did not say",
  }),
});

export const sessionSchema = z
  .object({
    id: uuid("Made by the service; time-ordered (UUID version 7).", exampleId),
    agent_id: uuid("The agent whose session it is; fixed."),
    session_type: z
      .string()
      .meta({ description: "conversation, development, task, batch, or any other word; fixed.", examples: ["task"] }),
    status: statusSchema,
    phase: phaseSchema,
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
    namedExamples: {
      session: { summary: "A session with a checkpoint", value: exampleSession },
    },
  });

export const sessionListSchema = z.array(sessionSchema).meta({
  id: "SessionList",
  description: "A page of sessions, newest first.",
  namedExamples: { page: { summary: "One session", value: [exampleSession] } },
});

const meaningOfWord: Readonly<Record<string, string>> = { ...phaseMeaning, ...statusMeaning };

function wordSchema(id: string, what: string, words: readonly string[]) {
  const meanings = Object.fromEntries(words.map((word) => [word, meaningOfWord[word] ?? ""]));
  return z.enum(words, { error: oneOf(words) }).meta({ id, ...enumMeta(what, meanings) });
}

/** A client's word for a state, in any case, read into the phases that it stands for. */
function word(field: WordField, schema: z.ZodType<string>) {
  const spelled = (text: unknown) => (typeof text === "string" ? (readWord(field, text)?.word ?? text) : text);
  return z.preprocess(spelled, schema).transform((known) => readWord(field, known) as Word);
}

const startsIn = (field: WordField) => (known: string) =>
  (initialPhases as readonly (Phase | undefined)[]).includes(readWord(field, known)?.entry);

const initialStatus = wordSchema(
  "InitialStatus",
  "What a session starts as, in any case: `active`, unless said otherwise. Phases are taken too.",
  knownWords("status").filter(startsIn("status")),
);

const initialPhase = wordSchema(
  "InitialPhase",
  "What a session starts as, finer than its status: `running`, unless said otherwise.",
  knownWords("phase").filter(startsIn("phase")),
);

const targetStatus = wordSchema(
  "TargetStatus",
  "What a session shall be, in any case. Phases are taken too.",
  knownWords("status"),
);

const agent = z.union([
  uuid("The agent's id."),
  z
    .looseObject({ id: uuid("The agent's id.") })
    .meta({ id: "Agent", description: "An agent of the session; of its keys only the id is read." }),
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
      .meta({
        description: "conversation (the default), development, task, batch, or any other word.",
        examples: ["development"],
      }),
    status: word("status", initialStatus).nullish(),
    phase: word("phase", initialPhase).nullish(),
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
    namedExamples: createExamples,
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
    status: word("status", targetStatus).nullish(),
    phase: word("phase", phaseSchema).nullish(),
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
    namedExamples: updateExamples,
  });

const largestPage = 1_000;

export const listQuerySchema = z
  .object({
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
        // It comes as text; clients that are generated shall pass a number. No maximum: more is served as the largest page.
        type: "integer",
        minimum: 1,
        default: 100,
        description: `How many sessions at most. More than ${largestPage} is served as ${largestPage}; the next page is linked.`,
        examples: [10],
      }),
    cursor: z
      .string({ error: "must be given once" })
      .optional()
      .meta({
        description: "Where the page starts: from the Link header of the page before.",
        examples: ["eyJhIjoxfQ"],
      }),
  })
  .meta({ id: "ListSessionsQuery" });

export const sessionIdSchema = z.object({ id: uuid("The session's id.", exampleId) }).meta({ id: "SessionPath" });
