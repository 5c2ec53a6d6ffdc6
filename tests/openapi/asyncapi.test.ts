/** The AsyncAPI file: that it is well-formed, that it is the app's, and that what is published is what it says. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Parser } from "@asyncapi/parser";
import { Ajv, type ValidateFunction } from "ajv";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { changesChannel, changesStream, changeTypes, eventSchema, sessionChannel } from "../../src/events/envelope.ts";
import { asyncApiYaml } from "../../src/http/asyncapi.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const checkedIn = readFileSync(`${root}openapi/asyncapi.yaml`, "utf8");

// biome-ignore lint/suspicious/noExplicitAny: a document of any shape, which the tests below look into
type Any = any;
const document: Any = parse(checkedIn);

/** Every format that the schemas name; ajv refuses one that it does not know. */
const formats = {
  uuid: /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/,
};

const ajv = new Ajv({ formats, keywords: ["components", "x-enumDescriptions"] });
const components = { schemas: document.components.schemas };

/** Compiled once: that takes a second for each channel. */
const compiled = new Map<string, ReadonlyMap<string, ValidateFunction>>();

/** What the messages of a channel are validated by, by their name; the last one takes whatever no other names. */
function validatorsOf(channel: string): ReadonlyMap<string, ValidateFunction> {
  const names = Object.keys(document.channels[channel].messages);
  const validators =
    compiled.get(channel) ??
    new Map(
      names.map((name) => [
        document.components.messages[name].name,
        ajv.compile({ $ref: `#/components/schemas/${name}`, components }),
      ]),
    );
  compiled.set(channel, validators);
  return validators;
}

/** Expects that the channel has a message for the event, and that the event is one. */
function expectDescribed(channel: string, event: Any): void {
  const validators = validatorsOf(channel);
  const validate = validators.get(event.event_type) ?? validators.get("session.<word>");
  expect(validate, `${event.event_type} on ${channel}`).toBeDefined();
  const isValid = validate?.(event);
  expect(isValid, `${JSON.stringify(event)}: ${ajv.errorsText(validate?.errors)}`).toBe(true);
}

describe("the file that is checked in", () => {
  it("is what the app makes: else run `npm run openapi` and check in the result", () => {
    expect(asyncApiYaml() === checkedIn).toBe(true);
  });

  it("is AsyncAPI 3, says its parser, and has nothing to add", { timeout: 30_000 }, async () => {
    const { document: parsed, diagnostics } = await new Parser().parse(checkedIn);
    const findings = diagnostics.filter(({ code }) => code !== "asyncapi-latest-version");
    expect(findings.map(({ code, message, path }) => `${code} ${path.join(".")}: ${message}`)).toEqual([]);
    expect(parsed?.version()).toMatch(/^3\./);
    expect(parsed?.channels().all()).toHaveLength(3);
    expect(parsed?.operations().filterBySend()).toHaveLength(3);
  });

  it("has the version of the package", () => {
    expect(document.info.version).toBe(JSON.parse(readFileSync(`${root}package.json`, "utf8")).version);
  });

  it("names the channels and the stream as they are, and what each carries", () => {
    const { changes, session, stream } = document.channels;
    expect([changes.address, session.address, stream.address]).toEqual([
      changesChannel,
      sessionChannel("{sessionId}"),
      changesStream,
    ]);
    const carried = (channel: Any) =>
      Object.keys(channel.messages).map((name) => document.components.messages[name].name);
    expect(carried(changes)).toEqual(changeTypes);
    const [known] = eventSchema.options;
    expect(carried(session)).toEqual([...known.options.map(({ shape }) => shape.event_type.value), "session.<word>"]);
    expect(carried(stream)).toEqual(["SessionStreamEntry"]);
  });

  it("shows examples of every message, which are what it says, and what the union of events says", () => {
    for (const channel of ["changes", "session", "stream"]) {
      for (const name of Object.keys(document.channels[channel].messages)) {
        const { name: type, examples } = document.components.messages[name];
        expect(examples.length, type).toBeGreaterThan(0);
        for (const { payload } of examples) {
          const validate = validatorsOf(channel).get(type);
          expect(validate?.(payload), `${type}: ${ajv.errorsText(validate?.errors)}`).toBe(true);
          if (channel !== "stream") expect(eventSchema.safeParse(payload).error, type).toBeUndefined();
        }
      }
    }
  });

  it("describes every schema, and leaves none unused", () => {
    for (const [name, schema] of Object.entries<Any>(document.components.schemas)) {
      expect(schema.description, name).toMatch(/\S/);
      expect(checkedIn.split(`#/components/schemas/${name}"`).length, name).toBeGreaterThan(1);
    }
  });

  it("refuses what is no event: a key that is missing, a type in the wrong place, a date without its digits", () => {
    const validate = validatorsOf("changes").get("session.created");
    const [{ payload: good }] = document.components.messages.SessionCreated.examples;
    const { event_id: _, ...anonymous } = good;
    const bad = [anonymous, { ...good, event_type: "session.thinking" }, { ...good, created_at: "2026-01-31" }];
    for (const event of [...bad, { ...good, sequence: "1" }, { ...good, payload: {} }]) {
      expect(validate?.(event), JSON.stringify(event)).toBe(false);
    }
    expect(validate?.(good)).toBe(true);
  });
});

describe("the service", () => {
  let service: TestService;
  let redis: Redis;
  beforeAll(async () => {
    service = await startTestService();
    redis = new Redis(service.redisUrl);
  });
  afterAll(async () => {
    redis.disconnect();
    await service.stop();
  });

  it.each([
    ["/asyncapi.yaml", "application/yaml; charset=utf-8"],
    ["/asyncapi.json", "application/json; charset=utf-8"],
  ])("200 %s is the one that is checked in", async (path, type) => {
    const { status, headers, text } = await service.request("GET", path);
    expect([status, headers.get("content-type")]).toEqual([200, type]);
    expect(parse(text)).toEqual(document);
    if (path.endsWith("yaml")) expect(text).toBe(checkedIn);
  });

  /** A session with changes of every kind there is a call for, and reports. */
  async function live(): Promise<string> {
    const headers = {
      "x-correlation-id": "deploy-42",
      traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    const id = await service.create({ session_type: "development", runtime_backend: "local" });
    const path = `/sessions/${id}`;
    await service.request(
      "PATCH",
      path,
      { status: "paused", checkpoint: { step: "ünï", deep: [{ "": null }] } },
      headers,
    );
    await service.request("PATCH", path, { context: { n: 12345678901234567890n.toString(), at: 1.5 } });
    await service.request("PATCH", path, { status: "failed" });
    return id;
  }

  it("publishes what the file says to the channel of all changes", async () => {
    const subscriber = redis.duplicate();
    const events: Any[] = [];
    subscriber.on("message", (_, message) => events.push(JSON.parse(message)));
    await subscriber.subscribe(changesChannel);
    const id = await live();
    const its = () => events.filter((event) => event.aggregate_id === id);
    await until(() => its().length === 4, "the changes");
    subscriber.disconnect();
    for (const event of its()) expectDescribed("changes", event);
  });

  it("publishes what the file says to the session's own channel, reports among it", async () => {
    const subscriber = redis.duplicate();
    const events: Any[] = [];
    subscriber.on("pmessage", (_pattern, channel, message) => {
      const event = JSON.parse(message);
      expect(channel).toBe(sessionChannel(event.aggregate_id));
      events.push(event);
    });
    await subscriber.psubscribe(sessionChannel("*"));
    const id = await live();
    const reports = [
      { event_type: "thinking", payload: { iteration: 1, tools_used: ["read_file"], note: null } },
      { event_type: "terminal", payload: { command: "ls", output: null, error: "denied", exit_code: 2 } },
      { event_type: "file_change", payload: { path: "a.ts", action: "created" } },
      { event_type: "completion", payload: { message: null, stats: { files: 1 } } },
      { event_type: "error", payload: {} },
      { event_type: "review_requested", payload: { pull_request: 42 } },
    ];
    expect(await service.request("POST", `/sessions/${id}/events`, reports)).toMatchObject({ status: 201 });
    const its = () => events.filter((event) => event.aggregate_id === id);
    await until(() => its().length === 4 + reports.length, "the changes and reports");
    subscriber.disconnect();
    for (const event of its()) expectDescribed("session", event);
  });

  it("adds what the file says to the stream, every field a string", async () => {
    // The tests share the stream: what others have put there by now is much, and not looked at.
    const [[before = "0"] = []] = await redis.xrevrange(changesStream, "+", "-", "COUNT", 1);
    const id = await live();
    const its = async () => {
      const entries = await redis.xrange(changesStream, before, "+");
      const all = entries.map(([, fields]) =>
        Object.fromEntries(fields.flatMap((field, at) => (at % 2 === 0 ? [[field, fields[at + 1]]] : []))),
      );
      return all.filter(({ aggregate_id }) => aggregate_id === id);
    };
    await until(async () => (await its()).length === 4, "the entries");
    const validate = validatorsOf("stream").get("SessionStreamEntry");
    for (const entry of await its()) {
      expect(validate?.(entry), `${JSON.stringify(entry)}: ${ajv.errorsText(validate?.errors)}`).toBe(true);
      expect(Object.keys(entry)).toEqual(Object.keys(document.components.schemas.SessionStreamEntry.properties));
      expectDescribed("changes", {
        ...entry,
        payload: JSON.parse(entry["payload"] ?? ""),
        metadata: JSON.parse(entry["metadata"] ?? ""),
        sequence: Number(entry["sequence"]),
        session_version: Number(entry["session_version"]),
        schema_version: Number(entry["schema_version"]),
      });
    }
  });
});
