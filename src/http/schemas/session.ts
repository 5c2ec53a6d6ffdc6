/** Sessions on the wire: what comes in, what goes out. */

import { z } from "zod";
import { phaseMeaning } from "../../sessions/lifecycle.ts";
import { enumMeta, oneOf } from "./common.ts";
import { document } from "./free-form.ts";
import {
  createExamples,
  exampleCheckpoint,
  exampleContext,
  exampleId,
  exampleMetadata,
  exampleSession,
  updateExamples,
} from "./session-examples.ts";
import {
  agentSchema,
  aliasShape,
  leaseTokenShape,
  outcomeShape,
  reasonShape,
  settableShape,
  statsMaxSchema,
  statsSchema,
  time,
  uuid,
} from "./session-fields.ts";
import { shownShape } from "./shown-fields.ts";
import {
  initialStateShape,
  phaseSchema,
  refuseContradiction,
  stateSchema,
  statusSchema,
  targetStateShape,
} from "./state-words.ts";

const runtimeBackends = ["local", "kubernetes", "unknown"] as const;

const contextSchema = document("What the agent is doing: any JSON object.", exampleContext);
const checkpointSchema = document("Where to carry on from: any JSON object.", exampleCheckpoint);
const metadataSchema = document("Where it runs: container_id, pod_name, terminal_id, pid, …", exampleMetadata);

const autoResume = z.boolean().nullish().meta({
  description: "Whether a session that is paused by this, or is set aside already, may be claimed all the same.",
});

export const runtimeBackend = z.enum(runtimeBackends, { error: oneOf(runtimeBackends) }).meta({
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
    state: stateSchema.optional(),
    context: contextSchema,
    checkpoint: checkpointSchema.nullable(),
    runtime_backend: runtimeBackend,
    runtime_metadata: metadataSchema,
    created_at: time("When it was created."),
    updated_at: time("When it last changed; always moves forward."),
    version: z.int().meta({ description: "1, and one more with each change; also the ETag.", examples: [1] }),
    attempt: z.int().meta({ description: "1, and one more with each recovery from a crash.", examples: [1] }),
    context_bytes: z.int().meta({ description: "Of the context, as answers spell it.", examples: [17] }),
    checkpoint_count: z.int().meta({ description: "How many checkpoints are kept.", examples: [1] }),
    started_at: time("When it first went live.").nullable(),
    ended_at: time("When it completed or crashed.").nullable(),
    last_activity_at: time("When its agent was last heard of."),
    deleted_at: time("When it was deleted; it is shown then only to who asks for deleted ones.").nullable(),
    ...shownShape,
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

const agent = z.union([uuid("The agent's id."), agentSchema], { error: "must be a UUID, or an object with an id" });

const agentsShape = {
  agent_ids: z.array(uuid("An agent's id.")).nullish().meta({ description: "A short form of `agents`." }),
  agents: z.array(agent).nullish().meta({ description: "The agents that take part: ids, or objects with an `id`." }),
};

const documentsShape = {
  context: contextSchema.nullish(),
  checkpoint: checkpointSchema.nullish(),
  runtime_backend: runtimeBackend.nullish(),
  runtime_metadata: metadataSchema.nullish(),
};

const createShape = {
  agent_id: uuid("The agent whose session it is. Needed, unless agent_ids or agents names one.").nullish(),
  ...agentsShape,
  session_type: z
    .string()
    .min(1)
    .max(255)
    .nullish()
    .meta({
      description: "conversation (the default), development, task, batch, or any other word.",
      examples: ["development"],
    }),
  ...initialStateShape,
  ...documentsShape,
  ...settableShape,
  ...aliasShape,
  stats: statsSchema.nullish(),
  stats_max: statsMaxSchema.nullish(),
};

export const agentMust = "is required: the UUID of the session's agent";

export const createSessionSchema = z
  .object(createShape)
  .superRefine((body, context) => {
    if (firstAgent(body) === undefined) {
      context.addIssue({ code: "custom", path: ["agent_id"], message: agentMust });
    }
    refuseContradiction(body, context);
  })
  .meta({
    id: "CreateSession",
    description: "A new session. Unknown keys are ignored, unless the request says Prefer: handling=strict.",
    namedExamples: createExamples,
  });

export const putByExternalIdSchema = z
  .object(createShape)
  .superRefine(refuseContradiction)
  .meta({
    id: "PutSessionByExternalId",
    description:
      "A new session, or what to change of the one that there is: what is absent stays then. Unknown keys are ignored, " +
      "unless the request says Prefer: handling=strict.",
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

const { runtime_metadata: runtimeMetadata, ...otherDocuments } = documentsShape;

/** What a runtime writes: where the session is, how the work goes, where it runs. */
const runtimeShape = {
  ...targetStateShape,
  ...reasonShape,
  ...outcomeShape,
  runtime_metadata: runtimeMetadata.describe("Replaces the metadata; null leaves it."),
  ...leaseTokenShape,
};

export const updateSessionSchema = z
  .object({
    ...runtimeShape,
    auto_resume: autoResume,
    ...otherDocuments,
    context: contextSchema.nullish().describe("Replaces the context; null leaves it."),
    checkpoint: checkpointSchema.nullish().describe("Replaces the checkpoint; null clears it."),
    ...settableShape,
    ...aliasShape,
    ...agentsShape,
  })
  .superRefine(refuseContradiction)
  .meta({
    id: "UpdateSession",
    description:
      "What to change; what is absent stays. Unknown keys are ignored, unless the request asks for strictness.",
    namedExamples: updateExamples,
  });

export const updateStatusSchema = z
  .object(runtimeShape)
  .superRefine(refuseContradiction)
  .meta({
    id: "UpdateSessionStatus",
    description: "What only a runtime may write of a session; what is absent stays.",
    namedExamples: { busy: { summary: "A step is done", value: { phase: "busy", stats: { iterations: 1 } } } },
  });

export const setStateSchema = z
  .object({ ...runtimeShape, state: targetStateShape.state.unwrap().unwrap() })
  .superRefine(refuseContradiction)
  .meta({
    id: "SetSessionState",
    description: "What a container platform says that the session is.",
    namedExamples: { busy: { summary: "At work", value: { state: "BUSY" } } },
  });

const actionShape = {
  ...reasonShape,
  checkpoint: documentsShape.checkpoint.describe("Where to carry on from; null clears it."),
  stats: outcomeShape.stats,
  stats_set: outcomeShape.stats_set,
  stats_max: outcomeShape.stats_max,
  ...leaseTokenShape,
};
const { error, result } = outcomeShape;
const because = (reason: string) => ({ reason: { summary: "With a reason", value: { reason } } });

export const actionSchema = z
  .object(actionShape)
  .meta({ id: "SessionAction", description: "All of it optional.", namedExamples: because("as asked") });

const startPhase = z.enum(["starting", "running"], { error: oneOf(["starting", "running"]) }).meta({
  id: "StartPhase",
  ...enumMeta("How far its start has come: `running`, unless said otherwise.", {
    starting: phaseMeaning.starting,
    running: "its runtime is up",
  }),
});

export const startSchema = z
  .object({
    ...actionShape,
    phase: startPhase.nullish(),
  })
  .meta({ id: "StartSession", description: "All of it optional.", namedExamples: because("the pod is up") });

export const pauseSchema = z
  .object({ ...actionShape, auto_resume: autoResume })
  .meta({ id: "PauseSession", description: "All of it optional.", namedExamples: because("waiting for review") });

export const endSchema = z.object({ ...actionShape, error, result }).meta({
  id: "EndSession",
  description: "All of it optional.",
  namedExamples: {
    result: { summary: "With a result", value: { reason: "all tests pass", result: { merged: true } } },
    error: {
      summary: "With an error",
      value: { reason: "oom", error: { code: "out_of_memory", message: "The process was killed." } },
    },
  },
});

export const recoverSchema = z
  .object({
    ...actionShape,
    from_checkpoint: z
      .boolean()
      .nullish()
      .meta({ description: "Whether to carry on from the last checkpoint (the default), or from none." }),
    force: z.boolean().nullish().meta({ description: "Also a session that has expired or timed out." }),
    reset: z.boolean().nullish().meta({
      description: "Begins from nothing: neither the checkpoint nor the stats of the attempts before are kept.",
    }),
  })
  .meta({
    id: "RecoverSession",
    description: "All of it optional.",
    namedExamples: {
      ...because("the node is back"),
      force: { summary: "Also one that ran out of time, from the beginning", value: { force: true, reset: true } },
    },
  });

export const externalIdPathSchema = z
  .object({
    external_id: z.string().meta({
      description: "The external id, percent-encoded (RFC 3986): 1 to 255 printable characters, `/` as `%2F`.",
      examples: ["PROJ-42"],
    }),
  })
  .meta({ id: "ExternalIdPath" });

export const sessionIdSchema = z.object({ id: uuid("The session's id.", exampleId) }).meta({ id: "SessionPath" });
