/** Sessions that are created together, on the wire. */

import { z } from "zod";
import { longestArray } from "../../json-scan.ts";
import { listOfBodies } from "./free-form.ts";
import { problemSchema } from "./problem.ts";
import { createSessionSchema, sessionSchema } from "./session.ts";
import { createExamples, exampleAgent, exampleId, exampleSession } from "./session-examples.ts";

/** How many sessions a batch may have. */
export const mostSessions = longestArray;

/** Strict: in so many bodies nobody would notice a key that is misspelt. */
export const batchElementSchema = createSessionSchema.strict().meta({
  id: "CreateSessionOfBatch",
  description: "A new session. A key that is not known is refused.",
  namedExamples: createExamples,
});

export const batchSchema = z
  .strictObject({
    sessions: listOfBodies(batchElementSchema, `The sessions, each as for \`POST /sessions/\`.`, mostSessions),
    atomic: z
      .boolean()
      .nullish()
      .meta({
        description: "Whether none is created unless all are (the default), or each for itself.",
        examples: [true],
      }),
  })
  .meta({
    id: "CreateSessions",
    description: "Sessions to be created together. A key that is not known is refused.",
    namedExamples: {
      two: {
        summary: "Two sessions, both or none",
        value: { sessions: [createExamples.task.value, createExamples.conversation.value] },
      },
      each: {
        summary: "Each for itself",
        value: { sessions: [createExamples.task.value, { agent_id: exampleAgent }], atomic: false },
      },
    },
  });

const batchResultSchema = z
  .object({
    index: z.int().meta({ description: "Which of the sessions of the request: 0 is the first.", examples: [0] }),
    status: z.int().meta({ description: "The HTTP status that it would have had alone.", examples: [201] }),
    session: sessionSchema.optional().describe("The session as it was created."),
    id: z
      .string()
      .optional()
      .meta({
        description: "With `Prefer: return=minimal`, in place of `session`: its id.",
        format: "uuid",
        examples: [exampleId],
      }),
    error: problemSchema.optional().describe("Why it was not created; its pointers are into the body of the request."),
  })
  .meta({ id: "BatchResult", description: "What came of one session of a batch." });

export const batchAnswerSchema = z
  .object({
    created: z.int().meta({ description: "How many sessions were created.", examples: [1] }),
    results: z.array(batchResultSchema).describe("One for each session, in the order of the request."),
  })
  .meta({
    id: "CreatedSessions",
    description: "What came of a batch.",
    namedExamples: {
      sessions: {
        summary: "The sessions",
        value: { created: 1, results: [{ index: 0, status: 201, session: exampleSession }] },
      },
      ids: {
        summary: "With Prefer: return=minimal",
        value: { created: 1, results: [{ index: 0, status: 201, id: exampleId }] },
      },
    },
  });
