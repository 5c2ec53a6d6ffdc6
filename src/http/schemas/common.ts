/**
 * What operations have in common beside their bodies: the headers, each described once. An operation names the ones it
 * reads (`requestHeaders`) and the ones its answers carry (`headers` of a response). Naming one only documents it.
 */

interface HeaderDoc {
  readonly description: string;
  readonly schema: { readonly type: "string" | "integer"; readonly format?: string };
  readonly example: string | number;
}

const text = { type: "string" } as const;

export const requestHeaders = {
  "If-Match": {
    description: "Changes the session only if it has this version (its ETag); otherwise the answer is 412.",
    schema: text,
    example: '"3"',
  },
  "If-None-Match": {
    description:
      "The versions (ETags) that the client has already: while the session is at one, the answer is 304. For a PUT they " +
      "are those that must not be there, else the answer is 412; `*` rules out any.",
    schema: text,
    example: '"3"',
  },
  "Idempotency-Key": {
    description:
      "A key that the client makes for this request: 1 to 255 printable ASCII characters. Sent again with it, to the " +
      "same path, the request is not done again, but answered as the first time, as long as the answer is kept " +
      "(24 h, unless set otherwise). Only answers of 2xx are kept.",
    schema: text,
    example: "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10",
  },
  "Lease-Token": {
    description:
      "The `lease_token` that the writer was given with its lease. What is written renews the lease; once the lease is " +
      "over, by whatever way, it is refused with 409 `lease_lost`. Without it nothing is refused, and nothing renewed.",
    schema: { type: "integer" },
    example: 7,
  },
  Prefer: {
    description:
      "`handling=strict` (RFC 7240) makes unknown keys an error (422) instead of ignoring them; `return=minimal`, of the " +
      "operations that speak of it, gives ids alone.",
    schema: text,
    example: "handling=strict",
  },
  "Last-Event-ID": {
    description: "The position of the last event that the client has: an EventSource sends it when it comes back.",
    schema: text,
    example: "4711",
  },
  "X-Request-Id": {
    description:
      "The request's id, for the log, the answer and the event: up to 128 letters, digits and `_.:/+=@-`. " +
      "Without one, or with an odd one, a new one is made.",
    schema: text,
    example: "6f1c2a9e-1f43-4a57-9f0e-6d1f3a1f2b3c",
  },
  "X-Correlation-Id": {
    description: "What this request is a part of, for the event: written like X-Request-Id.",
    schema: text,
    example: "deploy-42",
  },
  traceparent: {
    description: "The caller's trace (W3C Trace Context), passed on in the event.",
    schema: text,
    example: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  },
} as const satisfies Record<string, HeaderDoc>;

export const responseHeaders = {
  ETag: { description: "The session's version, quoted.", schema: text, example: '"3"' },
  Location: {
    description: "Where what was made is found.",
    schema: { type: "string", format: "uri-reference" },
    example: "/sessions/0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10",
  },
  Link: {
    description: 'The next page, as `<…>; rel="next"` (RFC 8288); absent on the last.',
    schema: text,
    example: '</sessions/?limit=100&cursor=eyJhIjoxfQ>; rel="next"',
  },
  "X-Next-Cursor": {
    description: "The `cursor` of the next page, for a search, which no link can lead on; absent on the last.",
    schema: text,
    example: "eyJhIjoxfQ",
  },
  "X-Total-Count": {
    description: "How many sessions there are on all pages; with `count=exact` alone.",
    schema: { type: "integer" },
    example: 42,
  },
  "Idempotent-Replayed": {
    description: "`true`: nothing was done, for this is the answer that the Idempotency-Key had the first time.",
    schema: text,
    example: "true",
  },
  "Preference-Applied": {
    description: "Says which of the preferences were heeded.",
    schema: text,
    example: "handling=strict",
  },
  "Wait-Timed-Out": {
    description: "`true` when what was waited for has not come; absent otherwise.",
    schema: text,
    example: "true",
  },
  "X-Request-Id": {
    description: "The request's id: the client's, or a new one. It also stands in the service's log.",
    schema: text,
    example: "6f1c2a9e-1f43-4a57-9f0e-6d1f3a1f2b3c",
  },
  "WWW-Authenticate": { description: "How to authenticate.", schema: text, example: "Bearer" },
  Accept: { description: "The types that a body may have.", schema: text, example: "application/json" },
  "Retry-After": { description: "Seconds to wait before the next try.", schema: { type: "integer" }, example: 1 },
} as const satisfies Record<string, HeaderDoc>;

export type RequestHeader = keyof typeof requestHeaders;
export type ResponseHeader = keyof typeof responseHeaders;

/** The description of an enum: what it is, and what each of its values means, for people and for tools. */
export function enumMeta<Value extends string>(what: string, meanings: Readonly<Record<Value, string>>) {
  const list = Object.entries(meanings).map(([value, meaning]) => `- \`${value}\`: ${meaning}`);
  return { description: [`${what}\n`, ...list].join("\n"), "x-enumDescriptions": meanings };
}

/** What is wrong with a value that is none of these, as `errors` of a problem says it. */
export const oneOf = (values: readonly string[]) => `must be one of ${values.join(", ")}`;
