/** The schema of problems, and what each operation says of those that it can answer with. */

import { z } from "zod";
import { catalogue, type ErrorCode } from "../../errors.ts";
import { problemType } from "../problem.ts";

const codes = Object.keys(catalogue) as [ErrorCode, ...ErrorCode[]];

export const problemSchema = z
  .looseObject({
    type: z.string().describe("A URI that names the kind of problem."),
    title: z.string().describe("The kind of problem, in words."),
    status: z.int().describe("The HTTP status of the answer."),
    detail: z.string().describe("What is wrong this time, and what to do next."),
    instance: z.string().describe("The path that was asked for."),
    code: z
      .enum(codes)
      .describe(
        `The kind of problem, for programs: ${codes.map((code) => `\`${code}\` (${catalogue[code][1]})`).join(", ")}.`,
      ),
    request_id: z.string().optional().describe("The request's id, which also stands in the service's log."),
    errors: z
      .array(
        z.object({
          pointer: z.string().optional().describe("Where in the body, as a JSON Pointer (RFC 6901)."),
          parameter: z.string().optional().describe("Which parameter of the query."),
          detail: z.string().describe("What is wrong there."),
        }),
      )
      .optional()
      .describe("Every problem found in the request."),
  })
  .meta({
    id: "Problem",
    description: "What went wrong, and what to do about it (RFC 9457).",
    examples: [
      {
        type: "urn:session-service:problem:session_not_found",
        title: "Session not found",
        status: 404,
        detail: "Session not found",
        instance: "/sessions/0198c0de-0000-7000-8000-000000000000",
        code: "session_not_found",
        request_id: "6f1c2a9e-1f43-4a57-9f0e-6d1f3a1f2b3c",
      },
    ],
  });

/** Problems that any operation may answer with. */
const everywhere: readonly ErrorCode[] = [
  "unauthorized",
  "not_acceptable",
  "misdirected_request",
  "internal_error",
  "database_unavailable",
];

/** The responses of an operation for the problems that it knows: one a status, its codes named. */
export function problems(...codesOfOperation: ErrorCode[]) {
  const all = [...codesOfOperation, ...everywhere];
  const statuses = new Set(all.map((code) => catalogue[code][0]));
  return Object.fromEntries(
    [...statuses].map((status) => [
      status,
      {
        description: all
          .filter((code) => catalogue[code][0] === status)
          .map((code) => `\`${code}\`: ${catalogue[code][1]}.`)
          .join(" "),
        content: { [problemType]: { schema: problemSchema } },
      },
    ]),
  );
}
