/**
 * What a client can meet: every problem has a stable code here, with its HTTP status and title. RFC 9457 gives the shape.
 */

export const catalogue = {
  malformed_json: [400, "The body is not JSON"],
  malformed_request: [400, "The request could not be read"],
  invalid_cursor: [400, "The cursor is not one of ours"],
  unauthorized: [401, "An API key is needed"],
  origin_forbidden: [403, "Requests from this origin are refused"],
  session_not_found: [404, "Session not found"],
  context_pointer_not_found: [404, "The context has nothing there"],
  checkpoint_not_found: [404, "Checkpoint not found"],
  job_not_found: [404, "Job not found"],
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
  bulk_token_required: [422, "A dry run is needed first"],
  bulk_token_invalid: [422, "The token is not of this dry run"],
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
