/** POST /sessions/{id}/events: what runtimes report. */

import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { z } from "zod";
import { errors } from "../../errors.ts";
import { envelopeText } from "../../events/row.ts";
import { textsWithin } from "../../json.ts";
import type { ReportedEvent } from "../../sessions/report.ts";
import { type RepeatableDeps, repeatable } from "../idempotency.ts";
import { leaseTokenOf } from "../lease-token.ts";
import type { OperationSchema } from "../openapi-document.ts";
import { contextOf } from "../request-context.ts";
import { problems } from "../schemas/problem.ts";
import { reportedSchema, reportSchema, spelledKeys, wordOf } from "../schemas/reported-event.ts";
import { sessionIdSchema } from "../schemas/session.ts";

/** In bytes of the text as it is sent. */
const largestPayload = 256 * 1024;

const schema = {
  operationId: "reportSessionEvents",
  summary: "Report what happens in a session",
  description:
    "Takes one event or up to 500, all or none, and answers with them. They count as activity of the session and make " +
    "no new version, unless it is idle: then they wake it to `ready`. They appear in its history, on its own Redis " +
    "channel `events:session:<id>` and in streams, not on `events:session`.",
  tags: ["events"],
  params: sessionIdSchema,
  body: reportSchema,
  requestHeaders: ["Idempotency-Key", "Lease-Token"],
  response: {
    201: {
      description: "The events as they were stored: one for one, an array for an array.",
      headers: ["Idempotent-Replayed"],
      content: { "application/json": { schema: reportedSchema } },
    },
    ...problems(
      "session_not_found",
      "lease_lost",
      "uri_too_long",
      "idempotency_key_in_use",
      "idempotency_key_reused",
      "malformed_json",
      "request_timeout",
      "origin_forbidden",
      "body_too_large",
      "payload_too_large",
      "unsupported_media_type",
      "validation_failed",
      "number_out_of_range",
      "unstorable_text",
      "nesting_too_deep",
    ),
  },
} satisfies OperationSchema;

/** Adds the route. */
export async function reportEventRoutes(plainApp: FastifyInstance, deps: RepeatableDeps): Promise<void> {
  const app = plainApp.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/sessions/:id/events",
    { schema },
    repeatable(deps, schema, async (request, commands) => {
      const { body, bodyTexts, params } = request;
      const events = reportedEvents(body, bodyTexts);
      const leaseToken = leaseTokenOf(request, tokenWithin(body));
      const result = await commands.report(contextOf(request), { id: params.id, leaseToken, events });
      if (result.outcome === "not_found") throw errors.sessionNotFound();
      if (result.outcome === "lease_lost") throw errors.leaseLost();
      const texts = result.events.map(envelopeText);
      const answer = Array.isArray(body) ? `[${texts.join(",")}]` : texts.join();
      return { status: 201, headers: {}, body: answer, changed: true };
    }),
  );
}

type Body = z.output<typeof reportSchema>;
type Sent = Exclude<Body, readonly unknown[]>;
type Texts = ReadonlyMap<string, string>;

/** The token that events of a report name; undefined when none does. */
function tokenWithin(body: Body): number | undefined {
  if (!Array.isArray(body)) return body.lease_token ?? undefined;
  const at = body.findIndex((sent) => sent.lease_token != null);
  const token = body[at]?.lease_token ?? undefined;
  const other = body.findIndex((sent) => sent.lease_token != null && sent.lease_token !== token);
  if (other < 0) return token;
  const detail = `must be that of /${at}: a report has one lease_token, or none`;
  throw errors.validationFailed([{ pointer: `/${other}/lease_token`, detail }]);
}

function reportedEvents(body: Body, texts: Texts): ReportedEvent[] {
  if (!Array.isArray(body)) return [reportedEvent(body, texts, "/payload")];
  return body.map((sent, at) => reportedEvent(sent, textsWithin(texts.get(String(at)) ?? ""), `/${at}/payload`));
}

function reportedEvent(sent: Sent, texts: Texts, pointer: string): ReportedEvent {
  const word = wordOf(sent);
  const payload = sent.payload == null ? "{}" : (texts.get("payload") ?? "{}");
  if (Buffer.byteLength(payload) > largestPayload) throw errors.payloadTooLarge(pointer, largestPayload);
  return { word, payload: withKeysAsMeant(payload, spelledKeys(word, sent.payload ?? {})) };
}

/** The payload's text, its values untouched, with the keys that are meant in place of those that are spelled. */
function withKeysAsMeant(text: string, spellings: ReturnType<typeof spelledKeys>): string {
  if (spellings.every(([spelled, key]) => spelled === key)) return text;
  const meant = new Map(spellings);
  const members = [...textsWithin(text)].map(
    ([spelled, value]) => `${JSON.stringify(meant.get(spelled) ?? spelled)}:${value}`,
  );
  return `{${members.join(",")}}`;
}
