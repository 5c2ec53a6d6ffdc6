/** The schema of problems, and what each operation says of those that it can answer with. */

import { z } from "zod";
import { errors } from "../../errors.ts";
import { nestingLimit } from "../../json-scan.ts";
import { catalogue, type ErrorCode, type ServiceError } from "../../service-error.ts";
import { transitions } from "../../sessions/lifecycle.ts";
import { problemText, problemType } from "../problem.ts";
import { enumMeta } from "./common.ts";
import { phaseSchema } from "./state-words.ts";

const codes = Object.keys(catalogue) as [ErrorCode, ...ErrorCode[]];

/** One of each, made as the service makes them: a code without an example does not compile. */
const samples: Readonly<Record<ErrorCode, ServiceError>> = {
  malformed_json: errors.malformedJson("The body is not JSON: Unexpected end of JSON input."),
  malformed_request: errors.malformedRequest("'/sessions/%' is not a valid url component."),
  invalid_cursor: errors.invalidCursor(),
  unauthorized: errors.unauthorized(),
  origin_forbidden: errors.originForbidden("https://elsewhere.example"),
  session_not_found: errors.sessionNotFound(),
  context_pointer_not_found: errors.contextPointerNotFound("/messages/3"),
  checkpoint_not_found: errors.checkpointNotFound(),
  job_not_found: errors.jobNotFound(),
  route_not_found: errors.routeNotFound("GET", "/session"),
  method_not_allowed: errors.methodNotAllowed("PUT", ["GET", "HEAD", "PATCH"]),
  not_acceptable: errors.notAcceptable(["application/json"]),
  request_timeout: errors.requestTimeout(),
  invalid_transition: errors.invalidTransition("completed", "running", transitions.completed, {
    from: "completed",
    to: "active",
  }),
  lease_lost: errors.leaseLost(),
  lease_held: errors.leaseHeld("worker-7", "2026-01-31T09:30:00.123456Z"),
  session_not_live: errors.sessionNotLive("completed", "Its work is over; restart it to do it again."),
  json_patch_test_failed: errors.jsonPatchTestFailed(0),
  checkpoint_in_use: errors.checkpointInUse(),
  purge_requested: errors.purgeRequested(),
  external_id_taken: errors.externalIdTaken("PROJ-42", "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10"),
  idempotency_key_in_use: errors.idempotencyKeyInUse(),
  position_gone: errors.positionGone("The events up to position 42 have been removed."),
  precondition_failed: errors.preconditionFailed(),
  body_too_large: errors.bodyTooLarge(8_388_608),
  document_too_large: errors.documentTooLarge("context", {
    bytes: 9_000_000,
    limit: 8_388_608,
    largest: [{ key: "messages", bytes: 8_900_000 }],
  }),
  payload_too_large: errors.payloadTooLarge("/0/payload", 262_144),
  uri_too_long: errors.uriTooLong(),
  unsupported_media_type: errors.unsupportedMediaType("text/xml", ["application/json"]),
  misdirected_request: errors.misdirectedRequest("elsewhere.example"),
  validation_failed: errors.validationFailed([{ pointer: "/agent_id", detail: "must be a UUID" }]),
  json_patch_failed: errors.jsonPatchFailed(1, "the context has nothing at /tokens/input"),
  not_a_number: errors.notANumber("/progress"),
  number_out_of_range: errors.numberOutOfRange("/context/size"),
  unstorable_text: errors.unstorableText("/context/text", "a NUL character"),
  nesting_too_deep: errors.nestingTooDeep(nestingLimit),
  idempotency_key_reused: errors.idempotencyKeyReused(),
  bulk_token_required: errors.bulkTokenRequired(),
  bulk_token_invalid: errors.bulkTokenInvalid("It is not of a dry run of this request."),
  legal_hold: errors.legalHold(),
  headers_too_large: errors.headersTooLarge(),
  internal_error: errors.internal(undefined),
  database_unavailable: errors.databaseUnavailable("The database can't be reached."),
  schema_outdated: errors.schemaOutdated(),
  starting: errors.starting(),
};

const where = {
  path: "/sessions/0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10",
  requestId: "6f1c2a9e-1f43-4a57-9f0e-6d1f3a1f2b3c",
};

/** An example of each problem, under its code. */
const examples = Object.fromEntries(
  codes.map((code) => [code, { summary: catalogue[code][1], value: JSON.parse(problemText(samples[code], where)) }]),
);

const codeSchema = z.enum(codes).meta({
  id: "ProblemCode",
  ...enumMeta(
    "The kind of problem, for programs. A code keeps its meaning; new ones may be added.",
    Object.fromEntries(codes.map((code) => [code, `${catalogue[code][1]} (${catalogue[code][0]})`])),
  ),
});

const fieldProblemSchema = z
  .object({
    pointer: z.string().optional().describe("Where in the body, as a JSON Pointer (RFC 6901)."),
    parameter: z.string().optional().describe("Which parameter of the query."),
    detail: z.string().describe("What is wrong there."),
  })
  .meta({ id: "FieldProblem", description: "One thing that is wrong with a request." });

export const problemSchema = z
  .looseObject({
    type: z.string().meta({ description: "A URI that names the kind of problem.", format: "uri" }),
    title: z.string().describe("The kind of problem, in words."),
    status: z.int().describe("The HTTP status of the answer."),
    detail: z.string().describe("What is wrong this time, and what to do next."),
    instance: z.string().describe("The path that was asked for."),
    code: codeSchema,
    request_id: z.string().optional().describe("The request's id, which also stands in the service's log."),
    errors: z.array(fieldProblemSchema).optional().describe("Every problem found in the request."),
    from: phaseSchema.optional().describe("`invalid_transition`: the phase that the session is in."),
    to: phaseSchema.optional().describe("`invalid_transition`: the phase that was asked for."),
    allowed: z.array(phaseSchema).optional().describe("`invalid_transition`: the phases that it may go to."),
    phase: phaseSchema.optional().describe("`session_not_live`: the phase that the session is in."),
    session_id: z.string().optional().describe("`external_id_taken`: the session that has it."),
    lease_owner: z.string().optional().describe("`lease_held`: who holds the lease."),
    lease_expires_at: z.string().optional().describe("`lease_held`: until when, unless it is renewed."),
    limit: z.int().optional().describe("`nesting_too_deep`: how many levels are allowed."),
    limit_bytes: z.int().optional().describe("`body_too_large`, `document_too_large`: how many bytes are allowed."),
    bytes: z.int().optional().describe("`document_too_large`: how many it has."),
    largest: z
      .array(z.object({ key: z.string(), bytes: z.int() }))
      .optional()
      .describe("`document_too_large`: its heaviest members, the heaviest first."),
  })
  .meta({
    id: "Problem",
    description: "What went wrong, and what to do about it (RFC 9457).",
    namedExamples: examples,
  });

/** Problems that any request may be answered with. */
const ofAll: readonly ErrorCode[] = [
  "malformed_request",
  "not_acceptable",
  "misdirected_request",
  "headers_too_large",
  "internal_error",
];

/** And any that needs a key and the database. */
const ofMost: readonly ErrorCode[] = ["unauthorized", "database_unavailable", "schema_outdated", "starting"];

/** The responses of an operation for the problems that it knows, and for those that all know: one a status. */
export function problems(...ofOperation: ErrorCode[]) {
  return problemResponses([...ofOperation, ...ofMost, ...ofAll]);
}

/** The same for an operation that asks for no key, unless it says so, and answers whatever became of the database. */
export function healthProblems(...ofOperation: ErrorCode[]) {
  return problemResponses([...ofOperation, ...ofAll]);
}

/** The content of a response that is one of these problems; the docs show an example of each. */
export function problemContent(...ofResponse: ErrorCode[]) {
  return { [problemType]: { schema: problemSchema, examples: ofResponse } };
}

function problemResponses(all: readonly ErrorCode[]) {
  const statuses = new Set(all.map((code) => catalogue[code][0]));
  return Object.fromEntries(
    [...statuses].map((status) => {
      const ofStatus = all.filter((code) => catalogue[code][0] === status);
      const description = ofStatus.map((code) => `\`${code}\`: ${catalogue[code][1]}.`).join(" ");
      return [status, { description, content: problemContent(...ofStatus) }];
    }),
  );
}

/** What a body can be refused for, whatever it says. */
export const bodyProblems = [
  "malformed_json",
  "request_timeout",
  "origin_forbidden",
  "body_too_large",
  "document_too_large",
  "unsupported_media_type",
  "validation_failed",
  "number_out_of_range",
  "unstorable_text",
  "nesting_too_deep",
] as const;
