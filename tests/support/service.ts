/** The service in this process, on a database of its own: real PostgreSQL, real Redis, a real socket. */

import { Redis } from "ioredis";
import { Agent, type Dispatcher, request } from "undici";
import { inject } from "vitest";
import { readConfig } from "../../src/config.ts";
import type { SessionChangeEvent } from "../../src/events/envelope.ts";
import { startService } from "../../src/main.ts";
import { createDatabase, type TestDatabase } from "./database.ts";
import { until } from "./until.ts";

export interface TestService extends AsyncDisposable {
  readonly url: string;
  readonly database: TestDatabase;
  readonly redisUrl: string;
  /** A request with a JSON body, if one is given; the answer's body is parsed as `body`, and raw as `text`. */
  request(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Creates a session and gives its id. */
  create(fields?: object): Promise<string>;
  stop(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into by the tests that know their shape
  readonly body: any;
}

export const agentId = "550e8400-e29b-41d4-a716-446655440000";

/** @param settings environment variables; the database, Redis and port are filled in */
export async function startTestService(settings: Record<string, string> = {}): Promise<TestService> {
  const database = await createDatabase();
  const redisUrl = settings["REDIS_URL"] ?? inject("redisUrl");
  const config = readConfig({
    PORT: "0",
    LOG_LEVEL: "silent",
    STOP_DELAY_MS: "0",
    DATABASE_URL: database.url,
    REDIS_URL: redisUrl,
    // The whole run can be tried both ways: COALESCE=off npx vitest run tests/http tests/events
    ...(process.env["COALESCE"] === undefined ? {} : { COALESCE: process.env["COALESCE"] }),
    ...settings,
  });
  const service = await startService(config, () => {}).catch(async (error: unknown) => {
    await database.drop();
    throw error;
  });
  const request = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
    send(`${service.url}${path}`, method, body, headers);
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= (async () => {
      service.stop();
      await service.stopped;
      await database.drop();
    })();
    return stopped;
  };
  return {
    url: service.url,
    database,
    redisUrl,
    request,
    async create(fields = {}) {
      const answer = await request("POST", "/sessions/", { agent_id: agentId, ...fields });
      if (answer.status !== 201) throw new Error(`not created: ${answer.text}`);
      return answer.body.id;
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** Kept open, as those of fetch are, which takes three times as long for a request: the tests send a hundred thousand. */
const connections = new Agent();

/** @param body sent as it is when it is a string or bytes, else as JSON; with the type application/json unless said */
export async function send(
  url: string,
  method: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const asIs = typeof body === "string" || body instanceof Uint8Array;
  const answer = await request(url, {
    dispatcher: connections,
    method: method as Dispatcher.HttpMethod,
    ...(body === undefined ? {} : { body: asIs ? body : JSON.stringify(body) }),
    headers: { accept: "*/*", ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
  });
  // Undici takes the length that a 304 tells of the whole for that of its body, which has none.
  if (answer.statusCode === 304) answer.body.on("error", () => {});
  const text = answer.statusCode === 304 ? "" : await answer.body.text();
  const answered = new Headers(Object.entries(answer.headers).map(([name, value]) => [name, String(value)]));
  const isJson = /json/.test(answered.get("content-type") ?? "");
  return {
    status: answer.statusCode,
    headers: answered,
    text,
    body: isJson && text !== "" ? JSON.parse(text) : undefined,
  };
}

export interface Subscription extends AsyncDisposable {
  /** Everything received so far, oldest first. */
  readonly events: readonly SessionChangeEvent[];
  /** Waits for the events of one session, this many of them. */
  ofSession(id: string, count: number): Promise<SessionChangeEvent[]>;
}

/** Listens on the channel, as a subscriber would. */
export async function subscribe(redisUrl: string, channel = "events:session"): Promise<Subscription> {
  const redis = new Redis(redisUrl, { retryStrategy: () => 50 });
  redis.on("error", () => {});
  const events: SessionChangeEvent[] = [];
  redis.on("message", (_, message) => events.push(JSON.parse(message)));
  await redis.subscribe(channel);
  return {
    events,
    async ofSession(id, count) {
      const its = () => events.filter((event) => event.aggregate_id === id);
      await until(() => its().length >= count, `${count} events of ${id}`);
      return its();
    },
    async [Symbol.asyncDispose]() {
      redis.disconnect();
    },
  };
}
