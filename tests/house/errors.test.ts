import { describe, expect, it } from "vitest";
import { errors } from "../../src/errors.ts";
import { catalogue, ServiceError } from "../../src/service-error.ts";
import { tableRows, textOf } from "./sources.ts";

/** One of each factory. One that is missing here does not compile. */
const made: Readonly<Record<keyof typeof errors, ServiceError>> = {
  malformedJson: errors.malformedJson("The body is not JSON: it ends too early."),
  malformedRequest: errors.malformedRequest("The request is not HTTP/1.1 as it should be."),
  invalidCursor: errors.invalidCursor(),
  invalidPosition: errors.invalidPosition(),
  unauthorized: errors.unauthorized(),
  originForbidden: errors.originForbidden("https://elsewhere.example"),
  sessionNotFound: errors.sessionNotFound(),
  contextPointerNotFound: errors.contextPointerNotFound("/messages/3"),
  checkpointNotFound: errors.checkpointNotFound(),
  jobNotFound: errors.jobNotFound(),
  routeNotFound: errors.routeNotFound("GET", "/nowhere"),
  methodNotAllowed: errors.methodNotAllowed("PUT", ["GET", "POST"]),
  notAcceptable: errors.notAcceptable(["application/json"]),
  requestTimeout: errors.requestTimeout(),
  invalidTransition: errors.invalidTransition("completed", "running", [], { from: "completed", to: "active" }),
  leaseLost: errors.leaseLost(),
  leaseHeld: errors.leaseHeld("worker-7", "2026-01-31T09:30:00.123456Z"),
  sessionNotLive: errors.sessionNotLive("completed", "Restart it to go on."),
  jsonPatchTestFailed: errors.jsonPatchTestFailed(0),
  checkpointInUse: errors.checkpointInUse(),
  purgeRequested: errors.purgeRequested(),
  externalIdTaken: errors.externalIdTaken("PROJ-42", "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10"),
  idempotencyKeyInUse: errors.idempotencyKeyInUse(),
  positionGone: errors.positionGone("The events before position 42 have been removed."),
  preconditionFailed: errors.preconditionFailed(),
  bodyTooLarge: errors.bodyTooLarge(1024),
  documentTooLarge: errors.documentTooLarge("context", {
    bytes: 2048,
    limit: 1024,
    largest: [{ key: "a", bytes: 2040 }],
  }),
  payloadTooLarge: errors.payloadTooLarge("/0/payload", 262_144),
  uriTooLong: errors.uriTooLong(),
  unsupportedMediaType: errors.unsupportedMediaType("text/csv", ["application/json"]),
  unsupportedContentEncoding: errors.unsupportedContentEncoding("br"),
  misdirectedRequest: errors.misdirectedRequest("elsewhere.example"),
  validationFailed: errors.validationFailed([{ pointer: "/agent_id", detail: "is required" }]),
  jsonPatchFailed: errors.jsonPatchFailed(1, "the context has nothing at /tokens/input"),
  notANumber: errors.notANumber("/progress"),
  numberOutOfRange: errors.numberOutOfRange("/context/n"),
  unstorableText: errors.unstorableText("/context/t", "a NUL character"),
  nestingTooDeep: errors.nestingTooDeep(128),
  idempotencyKeyReused: errors.idempotencyKeyReused(),
  bulkTokenRequired: errors.bulkTokenRequired(),
  bulkTokenInvalid: errors.bulkTokenInvalid("It is too old."),
  legalHold: errors.legalHold(),
  headersTooLarge: errors.headersTooLarge(),
  internal: errors.internal(new Error("why")),
  databaseUnavailable: errors.databaseUnavailable("The database can't be reached."),
  schemaOutdated: errors.schemaOutdated(),
  starting: errors.starting(),
};

const codes = Object.keys(catalogue);

describe("the error catalogue", () => {
  it("is documented: every code of it stands in docs/errors.md with its status, its title and what to do, and no other", () => {
    const rows = tableRows(textOf("docs/errors.md"), "Code");
    const documented = rows.map(([code, status, title]) => [code?.replaceAll("`", ""), Number(status), title]);
    expect(documented).toEqual(Object.entries(catalogue).map(([code, [status, title]]) => [code, status, title]));
    for (const [code, , , advice] of rows) expect(advice, code).toMatch(/\w.*\.$/);
  });

  it("has a factory for every code, and every factory makes an error of the catalogue", () => {
    expect(new Set(Object.values(made).map((error) => error.code))).toEqual(new Set(codes));
    for (const [name, error] of Object.entries(made)) {
      expect(error, name).toBeInstanceOf(ServiceError);
      expect([error.status, error.title], name).toEqual(catalogue[error.code]);
    }
  });

  it("has codes in snake_case, in the order of their statuses, none of them a success", () => {
    expect(codes.filter((code) => !/^[a-z]+(_[a-z]+)*$/.test(code))).toEqual([]);
    const statuses = Object.values(catalogue).map(([status]) => status);
    expect(statuses).toEqual(statuses.toSorted((a, b) => a - b));
    expect(statuses.filter((status) => status < 400 || status > 599)).toEqual([]);
  });

  it("speaks in sentences, and says when to try again what passes", () => {
    for (const [name, error] of Object.entries(made)) {
      if (!["sessionNotFound", "invalidTransition"].includes(name)) expect(error.message, name).toMatch(/^\S.*\S\.$/s);
      if (error.status === 503) expect(error.headers["retry-after"], name).toMatch(/^\d+$/);
    }
  });

  it("keeps the sentences that clients of the first service read", () => {
    expect(made.sessionNotFound.message).toBe("Session not found");
    expect(made.invalidTransition.message).toBe("Invalid state transition: completed → active");
  });

  it("tells a client nothing of what went wrong inside", () => {
    const hidden = errors.internal(new Error("select secret from sessions"));
    expect(JSON.stringify([hidden.message, hidden.title, hidden.members, hidden.headers])).not.toContain("secret");
  });
});
