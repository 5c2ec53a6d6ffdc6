/** POSTs that a client may send again: with an Idempotency-Key they are done once, and answered alike. */

import { randomUUID } from "node:crypto";
import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { requireRepeatablePosts } from "../../src/http/idempotency.ts";
import { startProxy, through } from "../support/proxy.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const body = { agent_id: agentId, context: { size: 1.5 } };
const replayed = ({ headers }: Answer) => headers.get("idempotent-replayed");

/** What makes an answer: all that a client goes by. */
const told = ({ status, headers, text }: Answer) => ({
  status,
  text,
  etag: headers.get("etag"),
  location: headers.get("location"),
  type: headers.get("content-type"),
});

describe("POST with an Idempotency-Key", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());
  const post = (key: string, sent: unknown = body, path = "/sessions/", headers: Record<string, string> = {}) =>
    service.request("POST", path, sent, { "idempotency-key": key, ...headers });
  const counts = async (agent: string) => {
    const [row] = await service.database.sql<{ sessions: number; events: number }[]>`
      select count(distinct s.id)::int as sessions, count(e.*)::int as events
      from sessions s left join events e on e.session_id = s.id where s.agent_id = ${agent}`;
    return row;
  };
  const keptFor = (key: string) => service.database.sql`select * from idempotency_keys where key = ${key}`;

  it("201 once, and the same answer each time: status, body, ETag and Location", async () => {
    const agent = randomUUID();
    const first = await post("once", { agent_id: agent });
    expect(first.status).toBe(201);
    expect(replayed(first)).toBeNull();
    // The answer is the first one's, whatever the session has become.
    await service.request("PATCH", first.headers.get("location") ?? "", { status: "paused" });
    for (const path of ["/sessions/", "/sessions"]) {
      const again = await post("once", { agent_id: agent }, path);
      expect(told(again)).toEqual(told(first));
      expect(replayed(again)).toBe("true");
      expect(again.headers.get("x-request-id")).not.toBe(first.headers.get("x-request-id"));
    }
    expect(await counts(agent)).toEqual({ sessions: 1, events: 2 });
  });

  it("of 20 twins at the same time one is done, and all get its answer", async () => {
    for (let round = 0; round < 25; round++) {
      const [agent, key] = [randomUUID(), randomUUID()];
      const answers = await Promise.all(Array.from({ length: 20 }, () => post(key, { agent_id: agent })));
      expect(answers.map(told)).toEqual(answers.map(() => told(answers[0] as Answer)));
      expect(answers[0]?.status).toBe(201);
      expect(answers.filter((answer) => replayed(answer) === "true")).toHaveLength(19);
      expect(await counts(agent)).toEqual({ sessions: 1, events: 1 });
    }
  });

  it("of 20 twins on two instances of the service one is done, and all get its answer", async () => {
    const other = await startTestService({ DATABASE_URL: service.database.url });
    try {
      for (let round = 0; round < 25; round++) {
        const [agent, key] = [randomUUID(), randomUUID()];
        const answers = await Promise.all(
          Array.from({ length: 20 }, (_, n) =>
            (n % 2 === 0 ? service : other).request(
              "POST",
              "/sessions/",
              { agent_id: agent },
              { "idempotency-key": key },
            ),
          ),
        );
        expect(answers.map(told)).toEqual(answers.map(() => told(answers[0] as Answer)));
        expect(answers[0]?.status).toBe(201);
        expect(answers.filter((answer) => replayed(answer) === "true")).toHaveLength(19);
        expect(await counts(agent)).toEqual({ sessions: 1, events: 1 });
      }
    } finally {
      await other.stop();
    }
  });

  it("of many different requests at the same time each is done", async () => {
    const agent = randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, n) => post(`${agent}/${n}`, { agent_id: agent, context: { n } })),
    );
    expect(answers.map((answer) => [answer.status, answer.body.context.n])).toEqual(answers.map((_, n) => [201, n]));
    expect(await counts(agent)).toEqual({ sessions: 60, events: 60 });
  });

  it("422 when the key was another request's: other bytes, another query, another meaning", async () => {
    await post("taken");
    for (const other of [
      await post("taken", { ...body, context: { size: 2 } }),
      await post("taken", JSON.stringify(body, undefined, 1)),
      await post("taken", body, "/sessions/?x=1"),
      await post("taken", body, "/sessions/", { "if-match": '"1"' }),
      await post("taken", body, "/sessions/", { prefer: "handling=strict" }),
    ]) {
      expect(other).toMatchObject({ status: 422, body: { code: "idempotency_key_reused" } });
      expect(replayed(other)).toBeNull();
    }
    // How a client says that its body is JSON, and what it calls the request, change nothing.
    const same = await post("taken", body, "/sessions/", { "content-type": "text/plain", "x-request-id": "retry-2" });
    expect([same.status, replayed(same)]).toEqual([201, "true"]);
  });

  it("422 for all but one of two different requests at the same time", async () => {
    for (let round = 0; round < 10; round++) {
      const key = randomUUID();
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, n) => post(key, { ...body, context: { n: n % 2 } })),
      );
      const winners = answers.filter(({ status }) => status === 201);
      expect(winners).toHaveLength(5);
      expect(new Set(winners.map(({ text }) => text)).size).toBe(1);
      expect(answers.filter((answer) => answer.body.code === "idempotency_key_reused")).toHaveLength(5);
    }
  });

  it("a key belongs to its path", async () => {
    const { body: session } = await post("shared");
    const path = `/sessions/${session.id}/events`;
    const event = { event_type: "thinking", payload: { iteration: 1 } };
    const first = await post("shared", event, path);
    expect([first.status, replayed(first)]).toEqual([201, null]);
    expect(first.body).toMatchObject({ event_type: "session.thinking" });
    const twins = await Promise.all(Array.from({ length: 20 }, () => post("shared", event, path)));
    expect(twins.map(told)).toEqual(twins.map(() => told(first)));
    expect(twins.every((twin) => replayed(twin) === "true")).toBe(true);
    const rows = await service.database.sql`select 1 from events where session_id = ${session.id}`;
    expect(rows).toHaveLength(2);
  });

  it("only answers of 2xx are kept: after a problem the key is free", async () => {
    const invalid = await post("problem", { context: {} });
    expect(invalid.status).toBe(422);
    const missing = await post("problem", { event_type: "thinking" }, `/sessions/${randomUUID()}/events`);
    expect(missing).toMatchObject({ status: 404, body: { code: "session_not_found" } });
    expect(await keptFor("problem")).toEqual([]);
    const valid = await post("problem");
    expect([valid.status, replayed(valid)]).toEqual([201, null]);
  });

  it("twins of a request that fails fail alike, and leave nothing", async () => {
    const path = `/sessions/${randomUUID()}/events`;
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => post("failing", { event_type: "thinking" }, path)),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 404));
    expect(await keptFor("failing")).toEqual([]);
  });

  it("without a key nothing is kept, and each request is done", async () => {
    const agent = randomUUID();
    const [before] = await service.database.sql`select count(*) from idempotency_keys`;
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => service.request("POST", "/sessions/", { agent_id: agent })),
    );
    expect(answers.map((answer) => [answer.status, replayed(answer)])).toEqual(answers.map(() => [201, null]));
    expect(await counts(agent)).toEqual({ sessions: 5, events: 5 });
    expect(await service.database.sql`select count(*) from idempotency_keys`).toEqual([before]);
  });

  it.each(["", "k".repeat(256), "clé", "a\tb"])("422 for the key %j", async (key) => {
    const answer = await post(key);
    expect(answer).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ parameter: "Idempotency-Key" }] },
    });
  });

  it.each(["k".repeat(255), '"quoted-as-the-draft-has-it"', "~ with ! spaces ~"])("201 for the key %j", async (key) => {
    const [first, again] = [await post(key), await post(key)];
    expect([first.status, replayed(first), replayed(again)]).toEqual([201, null, "true"]);
    expect(again.text).toBe(first.text);
  });

  it("201 anew when the answer is past its time, also before it has been removed; of twins one is done", async () => {
    const agent = randomUUID();
    const first = await post("old", { agent_id: agent });
    await service.database
      .sql`update idempotency_keys set created_at = now() - interval '23 hours 59 minutes' where key = 'old'`;
    expect(replayed(await post("old", { agent_id: agent }))).toBe("true");
    await service.database.sql`update idempotency_keys set created_at = now() - interval '24 hours' where key = 'old'`;
    // It may be another request, too.
    const twins = await Promise.all(
      Array.from({ length: 20 }, () => post("old", { agent_id: agent, session_type: "task" })),
    );
    expect(twins.map(told)).toEqual(twins.map(() => told(twins[0] as Answer)));
    expect(twins[0]?.body.id).not.toBe(first.body.id);
    expect(twins.filter((answer) => replayed(answer) === "true")).toHaveLength(19);
    expect(await counts(agent)).toEqual({ sessions: 2, events: 2 });
  });
});

describe("a request with an Idempotency-Key that takes long", () => {
  it("409 for its twins after 5 s, while all others are served", { timeout: 30_000 }, async () => {
    const service = await startTestService({ DATABASE_POOL_SIZE: "2" });
    const post = (key: string) => service.request("POST", "/sessions/", body, { "idempotency-key": key });
    try {
      await service.database.sql.begin(async (first) => {
        // As an instance of the service does that is running it.
        await first`select pg_advisory_xact_lock(hashtextextended('default POST /sessions slow', 0))`;
        const began = performance.now();
        let answered = 0;
        const twins = Promise.all(Array.from({ length: 20 }, () => post("slow"))).finally(() => {
          answered = 20;
        });
        for (let n = 0; answered === 0; n++) {
          const [keyed, plain, read] = await Promise.all([
            post(`quick ${n}`),
            service.request("POST", "/sessions/", body),
            service.request("GET", "/sessions/?limit=1"),
          ]);
          expect([keyed.status, plain.status, read.status]).toEqual([201, 201, 200]);
        }
        for (const twin of await twins) {
          expect(twin).toMatchObject({ status: 409, body: { code: "idempotency_key_in_use" } });
          expect(twin.headers.get("retry-after")).toBe("1");
        }
        expect(performance.now() - began).toBeGreaterThan(4_900);
      });
      const after = await post("slow");
      expect([after.status, replayed(after)]).toEqual([201, null]);
    } finally {
      await service.stop();
    }
  });

  it("gives its answer to twins that wait, from this instance and from another", async () => {
    const service = await startTestService();
    const other = await startTestService({ DATABASE_URL: service.database.url });
    try {
      await service.database.sql.unsafe(`
        create function be_slow() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return new; end $$;
        create trigger slow before insert on idempotency_keys for each row execute function be_slow()`);
      const answers = await Promise.all(
        [service, service, other, other].map((one) =>
          one.request("POST", "/sessions/", body, { "idempotency-key": "slow" }),
        ),
      );
      expect(answers.map(told)).toEqual(answers.map(() => told(answers[0] as Answer)));
      expect(answers.filter((answer) => replayed(answer) === "true")).toHaveLength(3);
    } finally {
      await other.stop();
      await service.stop();
    }
  });

  it("and is cut off between the change and the commit has changed nothing, and can be sent again", async () => {
    const service = await startTestService();
    const { hostname, port } = new URL(service.database.url);
    await using proxy = await startProxy({ host: hostname, port: Number(port) });
    const cutOff = await startTestService({ DATABASE_URL: through(proxy, service.database.url), RELAY: "off" });
    const { sql } = service.database;
    try {
      await sql.unsafe(`
        create function be_slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.3); return new; end $$;
        create trigger slow before insert on idempotency_keys for each row execute function be_slow()`);
      const post = () => cutOff.request("POST", "/sessions/", body, { "idempotency-key": "cut" });
      const isKeeping = async () =>
        (await sql`select 1 from pg_stat_activity where query like '%insert into idempotency_keys%' and state = 'active'
          and pid <> pg_backend_pid() and datname = current_database()`.then(({ length }) => length)) > 0;
      for (let round = 0; round < 5; round++) {
        const [answer] = await Promise.all([
          post(),
          until(isKeeping, "the answer to be kept", { everyMs: 2 }).then(() => proxy.cut()),
        ]);
        expect(answer).toMatchObject({ status: 503, body: { code: "database_unavailable" } });
        expect(answer.body.detail).toMatch(/nothing was changed/);
        await until(async () => !(await isKeeping()), "the database to notice");
        const [row] = await sql`select (select count(*) from sessions)::int as sessions,
          (select count(*) from events)::int as events, (select count(*) from idempotency_keys)::int as kept`;
        expect(row).toEqual({ sessions: 0, events: 0, kept: 0 });
      }
      const answers: Answer[] = [];
      // The pool may still be finding out that its other connections are gone, too.
      await until(async () => {
        const answer = await post();
        if (answer.status === 201) answers.push(answer);
        return answers.length === 2;
      }, "two answers");
      expect(answers.map(replayed)).toEqual([null, "true"]);
      expect(answers[1]?.text).toBe(answers[0]?.text);
    } finally {
      await cutOff.stop();
      await service.stop();
    }
  });
});

describe("every POST", () => {
  it("takes an Idempotency-Key, and says so", async () => {
    const service = await startTestService({ CORS_ORIGINS: "https://app.example" });
    try {
      const { body: document } = await service.request("GET", "/openapi.json");
      const posts = Object.entries<Record<string, { parameters: { $ref: string }[]; responses: object }>>(
        document.paths,
      ).flatMap(([path, { post }]) => (post === undefined ? [] : [{ path, post }]));
      expect(posts.map(({ path }) => path)).toEqual(expect.arrayContaining(["/sessions/", "/sessions/{id}/events"]));
      for (const { path, post } of posts) {
        expect(post.parameters, path).toContainEqual({ $ref: "#/components/parameters/Idempotency-Key" });
        expect(Object.keys(post.responses), path).toEqual(expect.arrayContaining(["409", "422"]));
      }
      const answer = await service.request("POST", "/sessions/", body, { origin: "https://app.example" });
      expect(answer.headers.get("access-control-expose-headers")).toContain("Idempotent-Replayed");
    } finally {
      await service.stop();
    }
  });

  it("that does not take one is refused when the app is built", async () => {
    const app = Fastify();
    requireRepeatablePosts(app);
    app.get("/things", async () => ({}));
    expect(() => app.post("/things", async () => ({}))).toThrow("POST /things must take an Idempotency-Key");
    await app.close();
  });
});
