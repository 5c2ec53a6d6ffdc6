/** Contexts on the wire, where they are read and changed for themselves. */

import { z } from "zod";
import { pointerParts } from "../../json.ts";
import { enumMeta } from "./common.ts";
import { document, freeForm } from "./free-form.ts";
import { exampleContext } from "./session-examples.ts";
import { leaseTokenShape } from "./session-fields.ts";

export const mergePatchType = "application/merge-patch+json";
export const jsonPatchType = "application/json-patch+json";

const longestSummary = 2_000;

const pointerError = "must be a JSON Pointer (RFC 6901): empty, or parts that each begin with /";

export const contextQuerySchema = z
  .object({
    pointer: z
      .string()
      .refine((pointer) => pointerParts(pointer) !== undefined, { error: pointerError })
      .optional()
      .meta({
        description: "Which part of the context, as a JSON Pointer (RFC 6901); all of it unless said.",
        examples: ["/messages/3"],
      }),
  })
  .meta({ id: "ContextQuery" });

/** What is read: an object, or with a pointer any JSON. */
export const contextPartSchema = z.unknown().meta({
  id: "ContextPart",
  description: "The context, an object; with a pointer, the value that it names: any JSON.",
  namedExamples: {
    context: { summary: "All of it", value: exampleContext },
    part: { summary: "With ?pointer=/current_task", value: exampleContext.current_task },
  },
});

export const replaceContextSchema = z
  .object({
    context: document("In place of the context: any JSON object.", exampleContext),
    change_summary: z
      .string()
      .max(longestSummary)
      .nullish()
      .meta({
        description: "What the change is about, for its event.",
        examples: ["Took up the next task"],
      }),
    ...leaseTokenShape,
  })
  .meta({
    id: "ReplaceContext",
    description: "A context in place of the one that there is.",
    namedExamples: {
      task: {
        summary: "Another task",
        value: { context: exampleContext, change_summary: "Took up the next task" },
      },
    },
  });

/** Either patch: which of them it is to be the type of the body says, and what it is not is told by who reads it. */
export const patchContextSchema = freeForm(z.unknown());

export const mergePatchSchema = z.unknown().meta({
  id: "ContextMergePatch",
  description: "RFC 7396: what is named is set, null removes, objects are merged alike, and what is not named stays.",
  type: "object",
  additionalProperties: true,
  namedExamples: {
    task: { summary: "One member set, one removed", value: { current_task: "Write the tests", blocked_by: null } },
  },
});

export const jsonPatchVerbs = ["add", "remove", "replace", "move", "copy", "test"] as const;

const operationSchema = z
  .object({
    op: z.enum(jsonPatchVerbs).meta(
      enumMeta("What is done.", {
        add: "sets a member, or inserts an element before the one there; `-` as the index appends",
        remove: "takes it away",
        replace: "sets what is there already",
        move: "takes it from elsewhere",
        copy: "sets it to what is elsewhere",
        test: "refuses the whole patch unless it is this value",
      }),
    ),
    path: z.string().meta({ description: "Where: a JSON Pointer (RFC 6901).", examples: ["/messages/-"] }),
    from: z.string().optional().describe("move, copy: what is moved or copied, as a JSON Pointer."),
    value: z.unknown().optional().describe("add, replace, test: any JSON."),
  })
  .meta({ id: "JsonPatchOperation", description: "One operation of RFC 6902." });

export const jsonPatchSchema = z.array(operationSchema).meta({
  id: "ContextJsonPatch",
  description: "RFC 6902: operations that are all applied, in their order, or none.",
  namedExamples: {
    message: {
      summary: "Appends to a list, if the task is still the same",
      value: [
        { op: "test", path: "/current_task", value: "Implement Steam Modal" },
        { op: "add", path: "/messages/-", value: { role: "user", content: "Go on." } },
      ],
    },
  },
});

/** Its keys are pointers: whether what they name are numbers is asked of the text, which keeps their digits. */
export const incrementContextSchema = freeForm(
  z
    .unknown()
    .refine((value) => typeof value === "object" && value !== null && !Array.isArray(value), {
      error: "must be a JSON object",
    })
    .meta({
      id: "IncrementContext",
      description: "What is added to which numbers: JSON Pointers (RFC 6901) into the context, each with a number.",
      type: "object",
      additionalProperties: { type: "number" },
      namedExamples: {
        progress: { summary: "Two numbers at once", value: { "/progress": 1, "/tokens/input": 250 } },
      },
    }),
);
