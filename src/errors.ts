/**
 * The error catalogue. Every problem that a client can meet has a stable code here, with its HTTP status and title;
 * `errors.<name>(…)` makes one, with a sentence that says what to do next. RFC 9457 gives the shape.
 */

import type { Phase } from "./sessions/lifecycle.ts";

export const catalogue = {
  malformed_json: [400, "The body is not JSON"],
  malformed_request: [400, "The request could not be read"],
  invalid_cursor: [400, "The cursor is not one of ours"],
  unauthorized: [401, "An API key is needed"],
  origin_forbidden: [403, "Requests from this origin are refused"],
  session_not_found: [404, "Session not found"],
  context_pointer_not_found: [404, "The context has nothing there"],
  checkpoint_not_found: [404, "Checkpoint not found"],
  route_not_found: [404, "No such path"],
  method_not_allowed: [405, "The path does not take this method"],
  not_acceptable: [406, "No representation that the client accepts"],
  request_timeout: [408, "The request took too long to arrive"],
  invalid_transition: [409, "Invalid state transition"],
  lease_lost: [409, "The lease is over"],
  lease_held: [409, "Somebody else holds the lease"],
  session_not_live: [409, "Nobody works on a session in that phase"],
  json_patch_test_failed: [409, "A test of the JSON Patch failed"],
  checkpoint_in_use: [409, "The session shows this checkpoint"],
  external_id_taken: [409, "Another session has this external id"],
  purge_requested: [409, "The session is being removed for good"],
  idempotency_key_in_use: [409, "The first request with this Idempotency-Key is still running"],
  position_gone: [410, "The position is not in the feed"],
  precondition_failed: [412, "The session has changed"],
  body_too_large: [413, "The body is too large"],
  document_too_large: [413, "A document of the session is too large"],
  payload_too_large: [413, "An event's payload is too large"],
  uri_too_long: [414, "The path is too long"],
  unsupported_media_type: [415, "The body's type is not supported"],
  misdirected_request: [421, "The Host is not one of ours"],
  validation_failed: [422, "The request is not valid"],
  json_patch_failed: [422, "The JSON Patch can't be applied"],
  not_a_number: [422, "There is no number to add to"],
  number_out_of_range: [422, "A number is out of range"],
  unstorable_text: [422, "A text can't be stored"],
  nesting_too_deep: [422, "The body is nested too deep"],
  idempotency_key_reused: [422, "The Idempotency-Key belongs to another request"],
  legal_hold: [423, "The session is under a legal hold"],
  headers_too_large: [431, "The request's headers are too large"],
  internal_error: [500, "Internal error"],
  database_unavailable: [503, "The database is not available"],
  schema_outdated: [503, "The database's tables are not up to date"],
  starting: [503, "The service is starting"],
} as const satisfies Record<string, readonly [status: number, title: string]>;

export type ErrorCode = keyof typeof catalogue;

/** One thing that is wrong with a request: where (an RFC 6901 pointer into the body, or a parameter's name), and what. */
export interface FieldError {
  readonly pointer?: string;
  readonly parameter?: string;
  readonly detail: string;
}

interface Extras {
  readonly [member: string]: unknown;
}

/** A problem that a client is told of. `members` are added to the answer's body, `headers` to its headers. */
export class ServiceError extends Error {
  override readonly name = "ServiceError";
  readonly code: ErrorCode;
  readonly members: Extras;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: ErrorCode,
    detail: string,
    { members = {}, headers = {}, cause }: { members?: Extras; headers?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(detail, { cause });
    this.code = code;
    this.members = members;
    this.headers = headers;
  }

  get status(): number {
    return catalogue[this.code][0];
  }

  get title(): string {
    return catalogue[this.code][1];
  }
}

const soon = { "retry-after": "1" };

export const errors = {
  malformedJson: (why: string) => new ServiceError("malformed_json", why),

  malformedRequest: (why: string) => new ServiceError("malformed_request", why),

  invalidCursor: () =>
    new ServiceError("invalid_cursor", "Take the cursor from a Link header as it stands, and with the same filters."),

  invalidPosition: () =>
    new ServiceError("invalid_cursor", "Take the position from an event as it stands: a whole number, as text."),

  unauthorized: () =>
    new ServiceError("unauthorized", "Send a configured key, as X-API-Key: <key> or Authorization: Bearer <key>.", {
      headers: { "www-authenticate": "Bearer" },
    }),

  originForbidden: (origin: string) =>
    new ServiceError(
      "origin_forbidden",
      `A web page at ${origin} may not change anything here; add its origin to CORS_ORIGINS to let it.`,
    ),

  sessionNotFound: () => new ServiceError("session_not_found", "Session not found"),

  contextPointerNotFound: (pointer: string) =>
    new ServiceError("context_pointer_not_found", `The context has nothing at ${pointer}; read all of it to see.`),

  checkpointNotFound: () =>
    new ServiceError("checkpoint_not_found", "No such checkpoint; list those of the session to see which there are."),

  routeNotFound: (method: string, path: string) =>
    new ServiceError("route_not_found", `Nothing answers ${method} ${path}; /openapi.json lists what does.`),

  methodNotAllowed: (method: string, allowed: readonly string[]) =>
    new ServiceError("method_not_allowed", `${method} is not taken here; ${allowed.join(", ")} are.`, {
      headers: { allow: allowed.join(", ") },
    }),

  notAcceptable: (offered: readonly string[]) =>
    new ServiceError("not_acceptable", `This answers with ${offered.join(" or ")}; the Accept header takes neither.`),

  requestTimeout: () =>
    new ServiceError("request_timeout", "Send the whole request, headers and body, without a pause."),

  invalidTransition: (from: Phase, to: Phase, allowed: readonly Phase[], named: { from: string; to: string }) =>
    new ServiceError("invalid_transition", `Invalid state transition: ${named.from} → ${named.to}`, {
      members: { from, to, allowed },
    }),

  leaseLost: () =>
    new ServiceError(
      "lease_lost",
      "The lease that Lease-Token names is over: its time ran out, or the session was paused, ended, or taken over. " +
        "Nothing was changed. Stop working on the session, or claim it again.",
    ),

  /** @param expiresAt RFC 3339 */
  leaseHeld: (owner: string, expiresAt: string) =>
    new ServiceError(
      "lease_held",
      `${owner} holds the lease until ${expiresAt}, and longer if it renews it. Wait for that, or for the lease to be ` +
        "handed over.",
      { members: { lease_owner: owner, lease_expires_at: expiresAt } },
    ),

  /** @param next what to do, as a sentence */
  sessionNotLive: (phase: Phase, next: string) =>
    new ServiceError("session_not_live", `The session is ${phase}: nothing was changed. ${next}`, {
      members: { phase },
    }),

  /** @param index of the operation, as for `jsonPatchFailed` */
  jsonPatchTestFailed: (index: number) =>
    fieldError("json_patch_test_failed", { pointer: `/${index}`, detail: "found another value; nothing was changed" }),

  checkpointInUse: () =>
    new ServiceError("checkpoint_in_use", "The session shows this checkpoint; save another one, or clear it, first."),

  purgeRequested: () => new ServiceError("purge_requested", "Its removal was asked for, and is not taken back."),
  /** @param ownerId of the session that has it; undefined: it had it a moment ago */
  externalIdTaken: (externalId: string, ownerId: string | undefined) => {
    const owner = ownerId === undefined ? "Another session" : `Session ${ownerId}`;
    const next = "Use that one, delete it, or choose another external id. Nothing was changed.";
    const members = ownerId === undefined ? {} : { session_id: ownerId };
    return new ServiceError("external_id_taken", `${owner} has ${JSON.stringify(externalId)}. ${next}`, { members });
  },

  idempotencyKeyInUse: () =>
    new ServiceError(
      "idempotency_key_in_use",
      "The first request with this Idempotency-Key has not ended within 5 s; send this one again to get its answer.",
      { headers: soon },
    ),

  /** @param why e.g. that the events there have been removed */
  positionGone: (why: string) =>
    new ServiceError("position_gone", `${why} Read on without a position, and start from what you find there.`),

  preconditionFailed: (why = "The session has another version than If-Match asks for; read it again.") =>
    new ServiceError("precondition_failed", why),

  bodyTooLarge: (limit: number) =>
    new ServiceError("body_too_large", `A body may have at most ${limit} bytes (BODY_LIMIT_BYTES).`, {
      members: { limit_bytes: limit },
    }),

  /**
   * @param document `context` or `checkpoint`
   * @param largest its heaviest members
   */
  documentTooLarge: (
    document: "context" | "checkpoint",
    { bytes, limit, largest }: { bytes: number; limit: number; largest: readonly { key: string; bytes: number }[] },
  ) => {
    const heaviest = largest.map((member) => `${JSON.stringify(member.key)} ${member.bytes}`).join(", ");
    const of = heaviest === "" ? "" : ` Its largest members, in bytes: ${heaviest}.`;
    return new ServiceError(
      "document_too_large",
      `A ${document} may have at most ${limit} bytes (${document.toUpperCase()}_LIMIT_BYTES), and this one has ${bytes}.` +
        `${of} Keep what is large elsewhere, and name it.`,
      { members: { limit_bytes: limit, bytes, largest } },
    );
  },

  payloadTooLarge: (pointer: string, limit: number) =>
    fieldError("payload_too_large", { pointer, detail: `may have at most ${limit} bytes` }),

  uriTooLong: () => new ServiceError("uri_too_long", "A part of the path is too long."),

  unsupportedMediaType: (got: string, taken: readonly string[]) =>
    new ServiceError("unsupported_media_type", `${got} is not taken here; send ${taken.join(", ")}.`, {
      headers: { accept: taken.join(", ") },
    }),

  unsupportedContentEncoding: (got: string) =>
    new ServiceError("unsupported_media_type", `Content-Encoding ${got} is not taken; send the body as it is.`, {
      headers: { "accept-encoding": "identity" },
    }),

  misdirectedRequest: (host: string) =>
    new ServiceError("misdirected_request", `${host} is not a name of this service; add it to ALLOWED_HOSTS.`),

  /** Of very many problems the first are told: the answer must not outgrow the request. */
  validationFailed: (problems: readonly FieldError[]) => {
    const told = problems.slice(0, 50);
    const more = problems.length > told.length ? ` And ${problems.length - told.length} more.` : "";
    return new ServiceError("validation_failed", told.map(sentence).join(" ") + more, { members: { errors: told } });
  },

  /** @param why e.g. that the context has nothing there */
  jsonPatchFailed: (index: number, why: string) =>
    fieldError("json_patch_failed", { pointer: `/${index}`, detail: `${why}; nothing was changed` }),

  notANumber: (pointer: string) =>
    fieldError("not_a_number", {
      pointer: `/${pointer.replaceAll("~", "~0").replaceAll("/", "~1")}`,
      detail: `the context has no number at ${pointer === "" ? "its root" : pointer}; nothing was changed`,
    }),

  numberOutOfRange: (pointer: string) =>
    fieldError("number_out_of_range", {
      pointer,
      detail: "needs more than 400 digits when written out, or more than 1,000,000 with the others before it",
    }),

  unstorableText: (pointer: string, what: string) =>
    fieldError("unstorable_text", { pointer, detail: `holds ${what}, which can't be stored` }),

  nestingTooDeep: (limit: number) =>
    new ServiceError("nesting_too_deep", `A document may be nested ${limit} levels deep.`, { members: { limit } }),

  idempotencyKeyReused: () =>
    new ServiceError(
      "idempotency_key_reused",
      "Another request was answered under this Idempotency-Key; make a new key for each new request.",
    ),

  legalHold: () =>
    new ServiceError("legal_hold", "Nothing of a session under a legal hold is removed; lift the hold first."),

  headersTooLarge: () => new ServiceError("headers_too_large", "Send fewer or shorter headers (16 KiB in all)."),

  internal: (cause: unknown) =>
    new ServiceError("internal_error", "This is a defect of the service; its log has more under the request's id.", {
      cause,
    }),

  databaseUnavailable: (why: string, cause?: unknown) =>
    new ServiceError("database_unavailable", `${why} Try again in a moment.`, { headers: soon, cause }),

  schemaOutdated: (cause?: unknown) =>
    new ServiceError("schema_outdated", "Run `session-service migrate`, or start with MIGRATE=on.", {
      headers: soon,
      cause,
    }),

  starting: () =>
    new ServiceError("starting", "The database is being started; try again in a moment.", { headers: soon }),
};

function fieldError(code: ErrorCode, problem: FieldError): ServiceError {
  return new ServiceError(code, sentence(problem), { members: { errors: [problem] } });
}

function sentence({ pointer, parameter, detail }: FieldError): string {
  const where = parameter ?? (pointer === "" ? "The body" : pointer);
  return where === undefined ? `${detail}.` : `${where}: ${detail}.`;
}
