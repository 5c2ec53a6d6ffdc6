import postgres from "postgres";
import { describe, expect, inject, it } from "vitest";
import { openMetrics } from "../../src/metrics.ts";
import { phases } from "../../src/sessions/lifecycle.ts";
import { tableRows, textOf } from "../house/sources.ts";
import { startOwnRedis } from "../support/engines.ts";
import { openStream } from "../support/event-source.ts";
import { startProxy, through } from "../support/proxy.ts";
import { startReplica } from "../support/replica.ts";
import { send, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

const own = "session_service_";
const requests = `${own}http_request_seconds_count`;

/** The samples of a text in Prometheus' format, by name and labels as they are written. */
function samplesOf(text: string): ReadonlyMap<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const [, series, value] = /^(\w+(?:\{(?:\w+="[^"\n]*",?)+\})?) (\S+)$/.exec(line) ?? [];
      if (series === undefined) throw new Error(`no sample: ${line}`);
      return [series, Number(value)];
    }),
  );
}

async function scrape(service: { readonly url: string }): Promise<ReadonlyMap<string, number>> {
  const answer = await send(`${service.url}/metrics`, "GET");
  if (answer.status !== 200) throw new Error(answer.text);
  return samplesOf(answer.text);
}

const requestsOf = (method: string, route: string, status: number) =>
  `${requests}{method="${method}",route="${route}",status="${status}"}`;

/** Looks at the figures until they are as they shall be. */
async function untilFigures(
  service: { readonly url: string },
  hold: (figures: ReadonlyMap<string, number>) => boolean,
  what: string,
): Promise<void> {
  await until(async () => hold(await scrape(service)), what, { everyMs: 20 });
}

const running = `${own}sessions{phase="running"}`;
const paused = `${own}sessions{phase="paused"}`;

/** From now on the count of sessions is due again. */
async function letCountAge(service: TestService): Promise<void> {
  await service.database.sql`update phase_counts set counted_at = counted_at - interval '31 s'`;
}

describe("what /metrics says of requests", () => {
  it("is told by route template, method and status, and by no id", async () => {
    await using service = await startTestService();
    const id = await service.create();
    const other = await service.create();
    for (const one of [id, other]) {
      await service.request("GET", `/sessions/${one}`);
      await service.request("GET", `/sessions/${one}/`);
    }
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await service.request("PATCH", `/sessions/${id}`, { status: "nonsense" });
    await service.request("GET", "/sessions/?limit=1");
    const answer = await service.request("GET", "/metrics");
    const figures = samplesOf(answer.text);
    expect(figures.get(requestsOf("POST", "/sessions/", 201))).toBe(2);
    expect(figures.get(requestsOf("GET", "/sessions/:id", 200))).toBe(4);
    expect(figures.get(requestsOf("PATCH", "/sessions/:id", 200))).toBe(1);
    expect(figures.get(requestsOf("PATCH", "/sessions/:id", 422))).toBe(1);
    expect(figures.get(requestsOf("GET", "/sessions/", 200))).toBe(1);
    expect(answer.text).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
  });

  it("measures them in seconds", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await service.request("GET", `/sessions/${id}/wait?until=completed&timeout=0.3`);
    const figures = await scrape(service);
    const labels = 'method="GET",route="/sessions/:id/wait",status="200"';
    const seconds = figures.get(`${own}http_request_seconds_sum{${labels}}`) ?? 0;
    expect(seconds).toBeGreaterThan(0.25);
    expect(seconds).toBeLessThan(5);
    expect(figures.get(`${own}http_request_seconds_bucket{le="0.1",${labels}}`)).toBe(0);
    expect(figures.get(`${own}http_request_seconds_bucket{le="+Inf",${labels}}`)).toBe(1);
  });

  it("has one label for all paths that no route takes, and one for all unusual methods", async () => {
    await using service = await startTestService();
    const series = async () => [...(await scrape(service)).keys()].filter((one) => one.startsWith(requests)).length;
    await service.request("GET", "/nowhere/0");
    await service.request("PROPFIND", "/nowhere/0");
    await service.request("GET", "/sessions/%");
    const before = await series();
    for (let i = 1; i <= 20; i++) await service.request("GET", `/nowhere/${i}`);
    for (const method of ["PROPFIND", "MKCOL", "LOCK", "REPORT"]) await service.request(method, "/nowhere/1");
    for (let i = 1; i <= 5; i++) await service.request("GET", `/${i}/%`);
    // The scrape itself is counted once it is over.
    expect(await series()).toBe(before + 1);
    const figures = await scrape(service);
    expect(figures.get(requestsOf("GET", "unknown", 404))).toBe(21);
    expect(figures.get(requestsOf("other", "unknown", 404))).toBe(5);
    expect(figures.get(requestsOf("GET", "unknown", 400))).toBe(6);
  });

  it("counts what is refused for want of a key", async () => {
    const auth = { "x-api-key": "b3f1c2d4a5968778" };
    await using service = await startTestService({ API_KEYS: auth["x-api-key"] });
    await service.request("GET", "/sessions/");
    const { text } = await service.request("GET", "/metrics", undefined, auth);
    expect(samplesOf(text).get(requestsOf("GET", "/sessions/", 401))).toBe(1);
  });

  it("counts as 499 what the client did not wait for", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await service.database.sql.begin(async (sql) => {
      await sql`select 1 from sessions for update`;
      const leaving = new AbortController();
      const body = JSON.stringify({ status: "paused" });
      const change = fetch(`${service.url}/sessions/${id}`, { method: "PATCH", body, signal: leaving.signal });
      const left = expect(change).rejects.toThrow();
      const waiting = () => service.database.sql`
        select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      await until(async () => (await waiting()).length > 0, "the change to be under way");
      leaving.abort();
      await left;
      await untilFigures(
        service,
        (figures) => figures.get(requestsOf("PATCH", "/sessions/:id", 499)) === 1,
        "the client that left to be counted",
      );
    });
  });
});

describe("what /metrics says of the service", () => {
  it("the connections in use, and the statements that wait for one", async () => {
    await using service = await startTestService({ DATABASE_POOL_SIZE: "2", COALESCE: "off", RELAY: "off" });
    const ids = [await service.create(), await service.create(), await service.create()];
    const holder = postgres(service.database.url, { max: 1 });
    try {
      let changes: Promise<unknown> | undefined;
      await holder.begin(async (sql) => {
        await sql`select 1 from sessions for update`;
        changes = Promise.all(ids.map((id) => service.request("PATCH", `/sessions/${id}`, { status: "paused" })));
        await untilFigures(
          service,
          (figures) =>
            figures.get(`${own}pool_size`) === 2 &&
            figures.get(`${own}pool_busy`) === 2 &&
            (figures.get(`${own}pool_waiting`) ?? 0) >= 1,
          "a change to wait for a connection",
        );
      });
      await changes;
      await untilFigures(
        service,
        (figures) => figures.get(`${own}pool_busy`) === 0 && figures.get(`${own}pool_waiting`) === 0,
        "the pool to be at rest",
      );
    } finally {
      await holder.end();
    }
  });

  it("how many events wait to be published, and for how long", async () => {
    await using service = await startTestService({ RELAY: "off" });
    const { sql } = service.database;
    expect((await scrape(service)).get(`${own}relay_lag_seconds`)).toBe(0);
    const id = await service.create();
    for (const [sequence, age] of [
      [2, "2 h"],
      [3, "1 h"],
      [4, "0 s"],
    ] as const) {
      await sql`
        insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
        values (gen_random_uuid(), ${id}, ${sequence}, 1, 'session.thinking', '{}', now() - ${age}::text::interval)`;
    }
    await sql`update relays set position = (select position from events where sequence = 2)`;
    const figures = await scrape(service);
    expect(figures.get(`${own}relay_backlog`)).toBe(2);
    expect(figures.get(`${own}relay_lag_seconds`)).toBeGreaterThanOrEqual(3_600);
    expect(figures.get(`${own}relay_lag_seconds`)).toBeLessThan(3_660);
  });

  it("that nothing waits, once Redis has it all", async () => {
    const redis = await startOwnRedis();
    await using service = await startTestService({ REDIS_URL: redis.url });
    await redis.stop();
    await service.create();
    await untilFigures(service, (figures) => (figures.get(`${own}relay_lag_seconds`) ?? 0) > 0.2, "a lag");
    const again = await startOwnRedis({ port: Number(new URL(redis.url).port) });
    try {
      await untilFigures(service, (figures) => figures.get(`${own}relay_backlog`) === 0, "the backlog to be gone");
      expect((await scrape(service)).get(`${own}relay_lag_seconds`)).toBe(0);
    } finally {
      await again.stop();
    }
  });

  it("which transitions were made", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await service.request("PATCH", `/sessions/${id}`, { status: "active" });
    await service.request("PATCH", `/sessions/${id}`, { context: { step: 1 } });
    const key = { "idempotency-key": "once" };
    for (let i = 0; i < 2; i++) await service.request("POST", `/sessions/${id}/complete`, {}, key);
    const figures = await scrape(service);
    expect([...figures].filter(([series]) => series.startsWith(`${own}transitions_total`))).toEqual([
      [`${own}transitions_total{from="running",to="paused"}`, 1],
      [`${own}transitions_total{from="paused",to="running"}`, 1],
      [`${own}transitions_total{from="running",to="completed"}`, 1],
    ]);
  });

  it("how many clients follow a stream", async () => {
    await using service = await startTestService();
    const clients = async () => (await scrape(service)).get(`${own}stream_clients`);
    expect(await clients()).toBe(0);
    {
      await using _first = await openStream(`${service.url}/events/stream`);
      await using _second = await openStream(`${service.url}/events/stream`);
      expect(await clients()).toBe(2);
    }
    await until(async () => (await clients()) === 0, "both to be gone");
    await untilFigures(
      service,
      (figures) => figures.get(requestsOf("GET", "/events/stream", 200)) === 2,
      "both requests to be counted",
    );
  });

  it("what sweeps did", async () => {
    await using service = await startTestService();
    const { sql } = service.database;
    const [late = "", over = ""] = [await service.create(), await service.create(), await service.create()];
    await sql`
      update sessions set timeout_seconds = 60, phase_since = now() - interval '2 min', next_check_at = now()
      where id = ${late}`;
    await sql`update sessions set expires_at = now() - interval '1 s', next_check_at = now() where id = ${over}`;
    const swept = (outcome: string) => `${own}swept_sessions_total{outcome="${outcome}"}`;
    await untilFigures(
      service,
      (figures) => figures.get(swept("timed_out")) === 1 && figures.get(swept("deleted")) === 1,
      "both to be swept",
    );
    const figures = await scrape(service);
    expect([...figures.keys()].filter((series) => series.startsWith(`${own}swept_sessions`))).toHaveLength(2);
    expect(figures.get(`${own}transitions_total{from="running",to="timed_out"}`)).toBe(1);
    expect(figures.get(`${own}sweep_seconds_count`)).toBeGreaterThanOrEqual(1);
    expect(figures.get(`${own}sweep_seconds_sum`)).toBeGreaterThan(0);
  });

  it("of each service its own, also of several in one process", async () => {
    await using one = await startTestService();
    await using other = await startTestService();
    await one.create();
    expect((await scrape(one)).get(requestsOf("POST", "/sessions/", 201))).toBe(1);
    expect((await scrape(other)).get(requestsOf("POST", "/sessions/", 201))).toBeUndefined();
  });
});

describe("the sessions by phase", () => {
  it("are told for every phase, deleted ones left out", async () => {
    await using service = await startTestService();
    const ids = [await service.create(), await service.create(), await service.create(), await service.create()];
    await service.request("PATCH", `/sessions/${ids[0]}`, { status: "paused" });
    await service.request("DELETE", `/sessions/${ids[1]}`);
    const figures = await scrape(service);
    for (const phase of phases) {
      const expected = phase === "running" ? 2 : phase === "paused" ? 1 : 0;
      expect(figures.get(`${own}sessions{phase="${phase}"}`), phase).toBe(expected);
    }
    expect(figures.get(`${own}sessions_age_seconds`)).toBeLessThan(10);
  });

  it("are counted at most every 30 s, and say how long ago that was", async () => {
    await using service = await startTestService();
    await service.create();
    expect((await scrape(service)).get(running)).toBe(1);
    await service.create();
    await service.database.sql`update phase_counts set counted_at = counted_at - interval '20 s'`;
    const early = await scrape(service);
    expect(early.get(running)).toBe(1);
    expect(early.get(`${own}sessions_age_seconds`)).toBeGreaterThanOrEqual(20);
    await letCountAge(service);
    const late = await scrape(service);
    expect(late.get(running)).toBe(2);
    expect(late.get(`${own}sessions_age_seconds`)).toBeLessThan(10);
  });

  it("are counted by one replica for all, also when all are asked at the same time", async () => {
    await using service = await startTestService();
    await using second = await startReplica(service);
    await using third = await startReplica(service);
    const { sql } = service.database;
    await service.create();
    await sql`create table counts_made (at timestamptz)`;
    await sql`create function note_count() returns trigger language plpgsql as
      $$ begin insert into counts_made values (clock_timestamp()); return new; end $$`;
    for (const replica of [service, second, third]) await scrape(replica);
    await letCountAge(service);
    await sql`create trigger note_count after update on phase_counts for each row execute function note_count()`;
    await service.create();
    await Promise.all([service, second, third].flatMap((replica) => Array.from({ length: 5 }, () => scrape(replica))));
    expect(await sql`select count(*)::int as counts from counts_made`).toEqual([{ counts: 1 }]);
    for (const replica of [service, second, third]) expect((await scrape(replica)).get(running)).toBe(2);
  });

  it("are as last counted while another replica counts them, and nobody waits for it", async () => {
    await using service = await startTestService();
    await service.create();
    await scrape(service);
    await service.create();
    await letCountAge(service);
    await service.database.sql.begin(async (sql) => {
      await sql`select 1 from phase_counts for no key update`;
      const startedAt = performance.now();
      const figures = await scrape(service);
      expect(performance.now() - startedAt).toBeLessThan(900);
      expect(figures.get(running)).toBe(1);
      expect(figures.get(`${own}sessions_age_seconds`)).toBeGreaterThanOrEqual(31);
    });
  });

  it("are as last counted while counting takes long, and then are those that were counted", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await scrape(service);
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    await letCountAge(service);
    await service.database.sql.begin(async (sql) => {
      await sql`lock table sessions in access exclusive mode`;
      const startedAt = performance.now();
      const figures = await scrape(service);
      expect(performance.now() - startedAt).toBeLessThan(2_000);
      expect(figures.get(`${own}database_up`)).toBe(1);
      expect(figures.get(running)).toBe(1);
      expect(figures.get(`${own}sessions_age_seconds`)).toBeGreaterThanOrEqual(0.9);
    });
    await untilFigures(service, (figures) => figures.get(paused) === 1, "the count to be there");
  });
});

describe("/metrics without the database", () => {
  const unknown = [`${own}relay_backlog`, `${own}relay_lag_seconds`, running, `${own}sessions_age_seconds`];

  it("is 200 with what the process knows, and has the rest again when the database is back", async () => {
    await using service = await startTestService();
    await service.create();
    const before = await scrape(service);
    for (const series of unknown) expect(before.get(series), series).toBeDefined();
    const name = new URL(service.database.url).pathname.slice(1);
    // As good as gone: nobody is let in any more, and those who are in are thrown out.
    const admin = postgres(inject("adminUrl"), { max: 1 });
    try {
      await admin.unsafe(`alter database ${name} with allow_connections false`);
      await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
      const figures = await scrape(service);
      expect(figures.get(`${own}database_up`)).toBe(0);
      for (const series of unknown) expect(figures.get(series), series).toBeUndefined();
      expect(figures.get(requestsOf("POST", "/sessions/", 201))).toBe(1);
      expect(figures.get(`${own}pool_size`)).toBe(10);
      await admin.unsafe(`alter database ${name} with allow_connections true`);
      await untilFigures(service, (now) => now.get(`${own}database_up`) === 1, "the database to be back");
      await untilFigures(service, (now) => unknown.every((series) => now.has(series)), "all figures to be back");
    } finally {
      await admin.end();
    }
  });

  it("is answered within 2 s while the database hangs", async () => {
    const { hostname, port } = new URL(inject("adminUrl"));
    await using proxy = await startProxy({ host: hostname, port: Number(port) });
    await using original = await startTestService();
    await using service = await startReplica(original, { DATABASE_URL: through(proxy, original.database.url) });
    await scrape(service);
    proxy.freeze();
    try {
      for (let i = 0; i < 3; i++) {
        const startedAt = performance.now();
        const figures = await scrape(service);
        expect(performance.now() - startedAt).toBeLessThan(2_000);
        expect(figures.get(`${own}database_up`)).toBe(0);
      }
    } finally {
      proxy.thaw();
    }
    await untilFigures(service, (figures) => figures.get(`${own}database_up`) === 1, "the database to be back");
  });
});

describe("who may ask, and for what", () => {
  it("needs a key like any other call, once there are keys", async () => {
    const key = "b3f1c2d4a5968778";
    await using service = await startTestService({ API_KEYS: key });
    expect(await service.request("GET", "/metrics")).toMatchObject({ status: 401, body: { code: "unauthorized" } });
    const bearer = { authorization: `Bearer ${key}` };
    expect((await service.request("GET", "/metrics", undefined, bearer)).status).toBe(200);
  });

  it("is Prometheus' text format for whoever takes it, and 406 for others", async () => {
    await using service = await startTestService();
    const ask = (accept: string) => service.request("GET", "/metrics", undefined, { accept });
    const prometheus = [
      "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5",
      "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ].join(",");
    for (const accept of [prometheus, "*/*", "text/plain", "text/plain;version=0.0.4", "text/*"]) {
      const answer = await ask(accept);
      expect(answer.status, accept).toBe(200);
      expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
      expect(answer.headers.get("cache-control")).toBe("no-store");
    }
    for (const accept of ["application/openmetrics-text;version=1.0.0", "application/json"]) {
      expect(await ask(accept), accept).toMatchObject({ status: 406, body: { code: "not_acceptable" } });
    }
    expect((await service.request("HEAD", "/metrics/")).status).toBe(200);
    expect((await service.request("POST", "/metrics", {})).status).toBe(405);
  });
});

describe("docs/metrics.md", () => {
  const [ofService, ofProcess] = textOf("docs/metrics.md").split("## Of the process");
  const rows = [...tableRows(ofService ?? "", "Metric"), ...tableRows(ofProcess ?? "", "Metric")];
  const documented = new Map(
    rows.map(([name = "", type = "", labels = "", meaning = ""]) => [
      name.replaceAll("`", ""),
      { type, labels: [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label), meaning },
    ]),
  );

  it("lists every metric with its type, and no others", async () => {
    await using service = await startTestService();
    const { text } = await service.request("GET", "/metrics");
    const given = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => `${name} ${type}`);
    const isElsewhere = (name: string) => process.platform !== "linux" && /Linux only/.test(name);
    const listed = [...documented].flatMap(([name, { type, meaning }]) =>
      isElsewhere(meaning) ? [] : [`${name} ${type}`],
    );
    expect(given.sort()).toEqual(listed.sort());
    expect(rows.filter(([, , , meaning = ""]) => !/\S\.$/.test(meaning))).toEqual([]);
  });

  it("lists the labels of each", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await service.request("PATCH", `/sessions/${id}`, { status: "paused" });
    const { text } = await service.request("GET", "/metrics");
    const metrics = openMetrics();
    metrics.swept({ outcomes: { expired: 1 }, seconds: 0 });
    const pool = { size: 1, busy: 0, waiting: 0 };
    const swept = await metrics.text({ databaseUp: true, pool, relay: undefined, sessions: undefined });
    let seen = 0;
    for (const series of [...samplesOf(text).keys(), ...samplesOf(swept).keys()]) {
      const [, sample = "", labels = ""] = /^(\w+)(.*)$/.exec(series) ?? [];
      const name = documented.has(sample) ? sample : sample.replace(/_(bucket|sum|count)$/, "");
      const names = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label).filter((label) => label !== "le");
      expect(documented.get(name)?.labels.toSorted(), series).toEqual(names.sort());
      if (names.length > 0 && name.startsWith(own)) seen++;
    }
    expect(seen).toBeGreaterThan(15);
  });

  it("names only metrics that there are in what to alert on", () => {
    const [, alerts = ""] = textOf("docs/metrics.md").split("## What to alert on");
    const named = [...alerts.matchAll(/\b(?:session_service|nodejs|process)_\w+/g)].map(([name]) =>
      documented.has(name) ? name : name.replace(/_(bucket|sum|count)$/, ""),
    );
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !documented.has(name))).toEqual([]);
  });
});
