/** The problems that a client can meet: each `errors.<name>(…)` makes one, with a sentence that says what to do next. */

import { type ErrorCode, type FieldError, ServiceError } from "./service-error.ts";
import type { Phase } from "./sessions/lifecycle.ts";

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

  jobNotFound: () =>
    new ServiceError("job_not_found", "No such job; GET /jobs lists those that there are. They are kept for 30 days."),

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
   * @param document the field that it is of
   * @param largest its heaviest members
   */
  documentTooLarge: (
    document: string,
    { bytes, limit, largest }: { bytes: number; limit: number; largest: readonly { key: string; bytes: number }[] },
  ) => {
    const heaviest = largest.map((member) => `${JSON.stringify(member.key)} ${member.bytes}`).join(", ");
    const of = heaviest === "" ? "" : ` Its largest members, in bytes: ${heaviest}.`;
    return new ServiceError(
      "document_too_large",
      `${limitOf(document, limit)}, and this one has ${bytes}.${of} Keep what is large elsewhere, and name it.`,
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

  bulkTokenRequired: () =>
    new ServiceError(
      "bulk_token_required",
      'Send the request with "dry_run": true first; then look at the count, and send it again with the token instead.',
    ),

  /** @param why as a sentence */
  bulkTokenInvalid: (why: string) =>
    new ServiceError("bulk_token_invalid", `${why} Nothing was changed. Make the dry run again, and use its token.`),

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

/** Those that have no limit of their own have that of a body. */
function limitOf(document: string, limit: number): string {
  const hasOwn = document === "context" || document === "checkpoint";
  const setting = hasOwn ? document.toUpperCase() : "BODY";
  return `${hasOwn ? `A ${document}` : document} may have at most ${limit} bytes (${setting}_LIMIT_BYTES)`;
}

function fieldError(code: ErrorCode, problem: FieldError): ServiceError {
  return new ServiceError(code, sentence(problem), { members: { errors: [problem] } });
}

function sentence({ pointer, parameter, detail }: FieldError): string {
  const where = parameter ?? (pointer === "" ? "The body" : pointer);
  return where === undefined ? `${detail}.` : `${where}: ${detail}.`;
}
