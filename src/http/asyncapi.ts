/** The AsyncAPI file: what the service sends to Redis, made from the zod union of the events. */

import type { FastifyInstance } from "fastify";
import { stringify } from "yaml";
import { z } from "zod";
import {
  changeEvents,
  changesChannel,
  changesStream,
  changeTypes,
  eventSchema,
  sessionChannel,
} from "../events/envelope.ts";
import { eventExamples, streamExample } from "./asyncapi-examples.ts";
import { components, idOf, type Json, type JsonObject } from "./openapi-schemas.ts";

const wholeNumber = z.string().regex(/^\d+$/);

/** An entry of the stream. Its fields are strings, as all fields in Redis are. */
const streamEntry = z
  .object({
    event_id: z.guid().describe("The key to deduplicate by: the entry's own id is another each time."),
    event_type: z.enum(changeTypes),
    aggregate_type: z.literal("session"),
    aggregate_id: z.guid().describe("The session's id."),
    sequence: wholeNumber.describe("1, 2, 3, … over all events of the session, in decimal digits."),
    session_version: wholeNumber.describe("The session's version after the event, in decimal digits."),
    position: z.string().describe("An opaque cursor into the whole feed, just after this event."),
    created_at: z.string().meta({ description: "When, by the database's clock.", format: "date-time" }),
    schema_version: z.literal("1").describe("The version of the payload's schema."),
    payload: z.string().meta({ description: "The payload as JSON text.", contentMediaType: "application/json" }),
    metadata: z.string().meta({ description: "The metadata as JSON text.", contentMediaType: "application/json" }),
  })
  .meta({ id: "SessionStreamEntry", description: "A change of a session, its fields flat." });

const atLeastOnce =
  "Every event arrives at least once, in order within each session, also when Redis was away or the service was killed " +
  "in between; repeats carry the same `event_id`.";

const frame = {
  // What tools read; 3.1 adds nothing that is needed here.
  asyncapi: "3.0.0",
  info: {
    title: "Session service: events",
    version: "0.1.0",
    description: [
      "What the service tells of the sessions of AI agents, over Redis. An event is written in the transaction that makes " +
        "the change, and published afterwards.",
      atLeastOnce,
      "Redis pub/sub forgets whoever is not listening. What a subscriber missed it reads over HTTP: " +
        "`GET /sessions/{id}/events?after=<position>`.",
    ].join("\n\n"),
    license: { name: "MIT" },
    contact: { name: "The session service" },
    tags: [{ name: "sessions", description: "What an agent is doing, and how far it got." }],
  },
  defaultContentType: "application/json",
  servers: {
    redis: {
      host: "{host}:{port}",
      protocol: "redis",
      title: "Redis",
      description:
        "The Redis or Valkey that `REDIS_URL` names; without one, the embedded Valkey that the service starts.",
      variables: {
        host: { default: "localhost", description: "The name or address of its machine." },
        port: { default: "6379", description: "Its port." },
      },
    },
  },
};

const onRedis = [{ $ref: "#/servers/redis" }];

/** The binding has no members as yet; what it can't say stands beside it. */
const bindings = { redis: {} };

/** What is sent where: the channel's own text, the operation that sends to it, and the types it carries. */
interface Place {
  readonly channel: JsonObject;
  readonly operation: { readonly name: string; readonly summary: string };
  readonly carries: readonly string[];
}

/** The document, written as JSON or YAML below. */
function asyncApiDocument(): JsonObject {
  const made = components();
  const events = eventMessages();
  const messages = { ...events, [idOf(streamEntry)]: streamMessage() };
  const places = { changes: changesPlace(), session: sessionPlace(Object.keys(events)), stream: streamPlace() };
  return {
    ...frame,
    channels: Object.fromEntries(
      Object.entries(places).map(([id, { channel, carries }]) => {
        const carried = carries.map((name) => [name, { $ref: `#/components/messages/${name}` }]);
        return [id, { ...channel, servers: onRedis, messages: Object.fromEntries(carried), bindings }];
      }),
    ),
    operations: Object.fromEntries(
      Object.entries(places).map(([id, { operation, carries }]) => [
        operation.name,
        {
          action: "send",
          channel: { $ref: `#/channels/${id}` },
          summary: operation.summary,
          tags: [{ name: "sessions" }],
          messages: carries.map((name) => ({ $ref: `#/channels/${id}/messages/${name}` })),
          bindings,
        },
      ]),
    ),
    components: {
      schemas: reachable(Object.keys(messages), made.schemas),
      messages,
      correlationIds: {
        correlation: {
          description: "What the request was a part of, by its X-Correlation-Id.",
          location: "$message.payload#/metadata/correlation_id",
        },
      },
    },
  };
}

function changesPlace(): Place {
  return {
    channel: {
      address: changesChannel,
      title: "Changes of all sessions",
      summary: "A Redis channel with every change of every session, and nothing else.",
      description:
        `${atLeastOnce} \`session_version\` is contiguous for each session here: a number that is skipped is an event ` +
        "that was missed. What runtimes report is on the sessions' own channels alone.",
      "x-redis-type": "channel",
    },
    operation: { name: "publishChange", summary: "Publishes a change of a session to all who watch any." },
    carries: changeEvents.map(idOf),
  };
}

function sessionPlace(messages: readonly string[]): Place {
  return {
    channel: {
      address: sessionChannel("{sessionId}"),
      title: "All events of a session",
      summary: "A Redis channel for each session, with its changes and what its runtime reports.",
      description: `${atLeastOnce} \`sequence\` is contiguous here: a number that is skipped is an event that was missed.`,
      parameters: { sessionId: { description: "The session's id.", location: "$message.payload#/aggregate_id" } },
      "x-redis-type": "channel",
    },
    operation: { name: "publishSessionEvent", summary: "Publishes an event to those who watch its session." },
    carries: messages,
  };
}

function streamPlace(): Place {
  return {
    channel: {
      address: changesStream,
      title: "Changes of all sessions, kept",
      summary: "A Redis stream for consumer groups, with what the channel of all changes carries.",
      description:
        `${atLeastOnce} Trimmed to about EVENT_STREAM_MAXLEN entries (100,000 unless set; 0: there is no stream), the ` +
        "oldest first, read or not.",
      "x-redis-type": "stream",
    },
    operation: { name: "addToStream", summary: "Adds a change of a session to the stream." },
    carries: [idOf(streamEntry)],
  };
}

/** A message for each type of event, by the name of its schema; the changes first. */
function eventMessages(): Readonly<Record<string, JsonObject>> {
  const [known, other] = eventSchema.options;
  const types = known.options.map((schema) => ({
    schema,
    type: schema.shape.event_type.value as string,
    shown: eventExamples.filter(({ event }) => event.event_type === schema.shape.event_type.value),
  }));
  const named = new Set(types.map(({ type }) => type));
  const rest = eventExamples.filter(({ event }) => !named.has(event.event_type));
  return Object.fromEntries(
    [...types, { schema: other, type: "session.<word>", shown: rest }].map(({ schema, type, shown }) => {
      const description = z.globalRegistry.get(schema)?.description ?? "";
      return [
        idOf(schema),
        {
          name: type,
          title: type,
          summary: description,
          contentType: "application/json",
          correlationId: { $ref: "#/components/correlationIds/correlation" },
          payload: { $ref: `#/components/schemas/${idOf(schema)}` },
          tags: [{ name: "sessions" }],
          examples: shown.map(({ summary, event }) => ({ name: event.event_type, summary, payload: event as Json })),
        },
      ];
    }),
  );
}

function streamMessage(): JsonObject {
  return {
    name: idOf(streamEntry),
    title: "An entry of the stream",
    summary: "A change of a session as flat fields, all of them strings; `payload` and `metadata` are JSON text.",
    payload: { $ref: `#/components/schemas/${idOf(streamEntry)}` },
    tags: [{ name: "sessions" }],
    examples: [{ name: "entry", summary: "A session was created", payload: streamExample }],
  };
}

/** The schemas of these names, and those that they refer to. */
function reachable(names: readonly string[], schemas: Readonly<Record<string, JsonObject>>): JsonObject {
  const found = new Set<string>();
  const visit = (value: Json | undefined): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, member] of Object.entries(value)) {
      if (key === "$ref" && typeof member === "string") add(member.slice(member.lastIndexOf("/") + 1));
      else visit(member);
    }
  };
  const add = (name: string): void => {
    if (found.has(name)) return;
    found.add(name);
    visit(schemas[name]);
  };
  for (const name of names) add(name);
  return Object.fromEntries([...found].map((name) => [name, schemas[name] ?? null]));
}

/** Serves the file as JSON and YAML, beside the OpenAPI file. */
export function serveAsyncApi(app: FastifyInstance): void {
  // Written when first asked for: most processes are never asked.
  let json: string | undefined;
  let yaml: string | undefined;
  app.get("/asyncapi.json", { schema: { hide: true } }, async (_, reply) => {
    json ??= `${JSON.stringify(asyncApiDocument(), null, 2)}\n`;
    return reply.header("content-type", "application/json; charset=utf-8").send(json);
  });
  app.get("/asyncapi.yaml", { schema: { hide: true } }, async (_, reply) => {
    yaml ??= asyncApiYaml();
    return reply.header("content-type", "application/yaml; charset=utf-8").send(yaml);
  });
}

/** The file as it is checked in and served. */
export function asyncApiYaml(): string {
  return stringify(asyncApiDocument(), { lineWidth: 120, blockQuote: "literal", aliasDuplicateObjects: false });
}
