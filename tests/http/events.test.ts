import { crc32 } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventSchema } from "../../src/events/envelope.ts";
import { type Answer, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

interface Told {
  readonly event_id: string;
  readonly event_type: string;
  readonly aggregate_id: string;
  readonly sequence: number;
  readonly position: string;
  readonly created_at: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

const nobody = "00000000-0000-0000-0000-000000000000";

/** Waits until all that is committed is told by the feed. */
async function allSettled({ database: { sql } }: TestService): Promise<void> {
  await until(async () => {
    const [row] = await sql`
      select settled >= (select coalesce(max(position), 0) from events) as reached from relays where name = 'redis'`;
    return row?.["reached"] === true;
  }, "the feed to reach the last event");
}

/** An event as a runtime would report it. */
async function report({ database: { sql } }: TestService, id: string, type: string, payload = "{}"): Promise<void> {
  await sql`
    with counted as (
      update sessions set last_sequence = last_sequence + 1 where id = ${id} returning last_sequence, version
    )
    insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
    select gen_random_uuid(), ${id}, last_sequence, version, ${type}, ${payload}::text::jsonb, clock_timestamp()
    from counted`;
}

const nextOf = (answer: Answer) => /<([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];

const sequences = (events: readonly Told[]) => events.map(({ sequence }) => sequence);

const positions = (events: readonly Told[]) => events.map(({ position }) => Number(position));

/** Follows the links to the end. */
async function walk(service: TestService, path: string): Promise<Told[]> {
  const seen: Told[] = [];
  for (let next: string | undefined = path; next !== undefined; ) {
    const answer: Answer = await service.request("GET", next);
    expect(answer.status, `${next} ${answer.text}`).toBe(200);
    seen.push(...answer.body);
    next = nextOf(answer);
  }
  return seen;
}

describe("reading events", () => {
  let service: TestService;
  let first: string;
  let second: string;
  /** Everything, in order. */
  let history: Told[];
  beforeAll(async () => {
    service = await startTestService();
    first = await service.create();
    second = await service.create();
    await report(service, first, "session.thinking", '{"iteration":1.0,"big":12345678901234567890}');
    for (let step = 0; step < 6; step++) {
      await service.request("PATCH", `/sessions/${first}`, { checkpoint: { step } });
      if (step % 2 === 0) await report(service, second, "session.terminal", `{"exit_code":${step}}`);
    }
    await service.request("PATCH", `/sessions/${second}`, { status: "paused" });
    await report(service, first, "session.thinking", '{"iteration":2}');
    await allSettled(service);
    history = (await get("/events?limit=1000")).body;
  });
  afterAll(() => service.stop());
  const get = (path: string) => service.request("GET", path);
  const ofFirst = () => history.filter((event) => event.aggregate_id === first);

  describe("GET /events", () => {
    it("200 gives a bare array of all events, in the order of their positions, as the schema has them", async () => {
      const answer = await get("/events");
      expect(answer.status).toBe(200);
      expect(answer.body).toHaveLength(14);
      expect(positions(answer.body)).toEqual(positions(answer.body).sort((a, b) => a - b));
      for (const event of answer.body) expect(eventSchema.parse(event)).toEqual(event);
      expect((await get("/events/")).text).toBe(answer.text);
      expect(answer.headers.get("link")).toBeNull();
      expect(answer.headers.get("content-type")).toBe("application/json; charset=utf-8");
    });

    it("200 keeps every digit of a payload", async () => {
      expect((await get("/events?event_type=thinking")).text).toMatch(
        /"payload":\{"big": 12345678901234567890, "iteration": 1\.0\}/,
      );
    });

    it("200 walks all pages, each event once, both ways", async () => {
      for (const limit of [1, 3, 7, 13]) {
        expect(await walk(service, `/events?limit=${limit}`)).toEqual(history);
        expect(await walk(service, `/events?limit=${limit}&order=desc`)).toEqual([...history].reverse());
      }
    });

    it("200 links a full page in ascending order, for what may yet come, and no other last page", async () => {
      const full = await get("/events?limit=14");
      expect(full.body).toHaveLength(14);
      expect((await get(nextOf(full) ?? "")).text).toBe("[]");
      expect(nextOf(await get("/events?limit=14&order=desc"))).toBeUndefined();
      expect(nextOf(await get("/events?limit=15"))).toBeUndefined();
    });

    it("200 after a position gives what follows it; after the last, an empty array", async () => {
      for (const [at, event] of history.entries())
        expect((await get(`/events?after=${event.position}`)).body).toEqual(history.slice(at + 1));
      expect((await get("/events?after=0")).body).toEqual(history);
      const middle = history[6]?.position;
      expect(await walk(service, `/events?after=${middle}&order=desc&limit=2`)).toEqual(history.slice(7).reverse());
    });

    it("200 filters by type: one or several, repeated or with commas, with or without the prefix", async () => {
      const ofTypes = (...types: string[]) => history.filter((event) => types.includes(event.event_type));
      expect((await get("/events?event_type=session.created")).body).toEqual(ofTypes("session.created"));
      const two = ofTypes("session.thinking", "session.terminal");
      expect(two).toHaveLength(5);
      for (const query of [
        "event_type=thinking,terminal",
        "event_type=session.terminal&event_type=session.thinking",
        "event_type=thinking&event_type=terminal,session.thinking",
      ]) {
        expect((await get(`/events?${query}`)).body, query).toEqual(two);
        expect(await walk(service, `/events?${query}&limit=2`), query).toEqual(two);
        expect(await walk(service, `/events?${query}&limit=2&order=desc`), query).toEqual([...two].reverse());
      }
      expect((await get("/events?event_type=nothing")).text).toBe("[]");
    });

    it("200 filters by session, one or several, whatever their case", async () => {
      expect((await get(`/events?aggregate_id=${first.toUpperCase()}`)).body).toEqual(ofFirst());
      expect((await get(`/events?aggregate_id=${nobody}`)).text).toBe("[]");
      for (const query of [`aggregate_id=${first},${second}`, `aggregate_id=${second}&aggregate_id=${first}`]) {
        expect(await walk(service, `/events?${query}&limit=3`)).toEqual(history);
        expect(await walk(service, `/events?${query}&limit=3&order=desc`)).toEqual([...history].reverse());
      }
      for (const { position } of history) {
        const later = ofFirst().filter((event) => Number(event.position) > Number(position));
        expect((await get(`/events?aggregate_id=${first}&after=${position}`)).body).toEqual(later);
      }
    });

    it("200 filters by time: this time or later, and before that time, with any offset", async () => {
      const from = history[3]?.created_at ?? "";
      const to = history[9]?.created_at ?? "";
      const within = history.filter((event) => event.created_at >= from && event.created_at < to);
      expect(within.length).toBeGreaterThan(3);
      const range = `created_after=${from}&created_before=${to}`;
      expect((await get(`/events?${range}`)).body).toEqual(within);
      expect(await walk(service, `/events?${range}&limit=2`)).toEqual(within);
      expect(await walk(service, `/events?${range}&limit=2&order=desc`)).toEqual([...within].reverse());
      const shifted = new Date(Date.parse(from) + 5.5 * 3_600_000).toISOString().slice(0, 19);
      const fraction = from.slice(19, -1);
      for (const plus of ["%2B", "+"]) {
        const answer = await get(`/events?created_after=${shifted}${fraction}${plus}05:30&created_before=${to}`);
        expect(answer.body).toEqual(within);
      }
      expect((await get(`/events?created_before=${from}`)).body).toEqual(history.filter((e) => e.created_at < from));
      expect((await get(`/events?created_after=${to}`)).body).toEqual(history.filter((e) => e.created_at >= to));
    });

    it("200 combines all filters, in any order, over all pages", async () => {
      const from = history[2]?.created_at ?? "";
      const to = history[12]?.created_at ?? "";
      const after = history[1]?.position ?? "";
      const keeps = {
        "event_type=updated": (event: Told) => event.event_type === "session.updated",
        "event_type=updated,thinking": ({ event_type: type }: Told) => /updated|thinking/.test(type),
        [`aggregate_id=${first}`]: (event: Told) => event.aggregate_id === first,
        [`created_after=${from}`]: (event: Told) => event.created_at >= from,
        [`created_before=${to}`]: (event: Told) => event.created_at < to,
        [`after=${after}`]: (event: Told) => Number(event.position) > Number(after),
      };
      const queries = Object.entries(keeps);
      for (let chosen = 0; chosen < 2 ** queries.length; chosen++) {
        const [types, ...others] = queries.filter((_, at) => (chosen & (1 << at)) > 0);
        const parts = [types, ...others].filter((part) => part !== undefined);
        if (parts.filter(([query]) => query.startsWith("event_type")).length > 1) continue;
        const query = parts.map(([text]) => text).join("&");
        const expected = history.filter((event) => parts.every(([, keep]) => keep(event)));
        expect(await walk(service, `/events?${query}&limit=2`), query).toEqual(expected);
        expect(await walk(service, `/events?${query}&order=desc&limit=3`), query).toEqual(expected.reverse());
      }
    });

    it.each([
      "limit=0",
      "limit=-1",
      "limit=abc",
      "limit=",
      "order=up",
      "event_type=",
      "event_type=a,,b",
      "event_type=UPPER",
      "event_type=session.",
      "aggregate_id=abc",
      `aggregate_id=${nobody},abc`,
      "created_after=yesterday",
      "created_after=2026-01-01",
      "created_after=2026-01-01T00:00:00",
      "created_before=2026-02-30T00:00:00Z",
      "created_before=2026-01-01T25:00:00Z",
      "created_before=2026-01-01T00:00:00%2B24:00",
      "created_before=0000-01-01T00:00:00Z",
      "created_before=9999-12-31T23:59:59-01:00",
      "created_before=2026-01-01T00:00:00Z&created_before=2026-01-01T00:00:00Z",
      "after=1&after=2",
      "vocabulary=klingon",
      "vocabulary=coding&vocabulary=container",
    ])("422 for %s, and names the parameter", async (query) => {
      for (const path of ["/events", `/sessions/${first}/events`]) {
        if (path !== "/events" && query.startsWith("aggregate_id")) continue;
        const answer = await get(`${path}?${query}`);
        expect(answer, path).toMatchObject({ status: 422, body: { code: "validation_failed" } });
        expect(answer.body.errors[0].parameter).toBe(query.split("=")[0]);
      }
    });

    it("422 for more than 100 types or sessions", async () => {
      const many = Array.from({ length: 101 }, (_, n) => `t${n}`).join();
      expect(await get(`/events?event_type=${many}`)).toMatchObject({ status: 422 });
      expect((await get(`/events?event_type=${many.replace(",t100", "")}`)).status).toBe(200);
    });
  });

  describe("GET /sessions/{id}/events", () => {
    it("200 gives the session's events by sequence, walks all pages both ways", async () => {
      const path = `/sessions/${first}/events`;
      const answer = await get(path);
      expect(answer.body).toEqual(ofFirst());
      expect(sequences(answer.body)).toEqual(Array.from({ length: 9 }, (_, n) => n + 1));
      expect((await get(`${path}/`)).text).toBe(answer.text);
      expect((await get(`/sessions/${first.toUpperCase()}/events`)).text).toBe(answer.text);
      for (const limit of [1, 2, 4]) {
        expect(await walk(service, `${path}?limit=${limit}`)).toEqual(ofFirst());
        expect(await walk(service, `${path}?limit=${limit}&order=desc`)).toEqual(ofFirst().reverse());
      }
    });

    it("200 after any position gives what the session has after it, also one of another session", async () => {
      for (const { position } of history) {
        const later = ofFirst().filter((event) => Number(event.position) > Number(position));
        const path = `/sessions/${first}/events?after=${position}`;
        expect(await walk(service, `${path}&limit=2`)).toEqual(later);
        expect(await walk(service, `${path}&limit=2&order=desc`)).toEqual(later.reverse());
      }
    });

    it("200 filters by type and time", async () => {
      const from = ofFirst()[2]?.created_at ?? "";
      const expected = ofFirst().filter((event) => event.created_at >= from && event.event_type !== "session.created");
      const query = `event_type=updated&event_type=thinking&created_after=${from}&limit=2`;
      expect(await walk(service, `/sessions/${first}/events?${query}`)).toEqual(expected);
      expect(await walk(service, `/sessions/${first}/events?${query}&order=desc`)).toEqual(expected.reverse());
    });

    it("200 gives the event of a change that was answered just now, settled or not", async () => {
      const id = await service.create();
      for (let step = 1; step <= 20; step++) {
        await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step } });
        const newest = await get(`/sessions/${id}/events?order=desc&limit=1`);
        expect(sequences(newest.body)).toEqual([step + 1]);
      }
    });

    it("404 for a session that is unknown, malformed or deleted; 200 for a deleted one that is asked for", async () => {
      for (const id of [nobody, "abc", "x".repeat(500)])
        expect(await get(`/sessions/${id}/events`), id).toMatchObject({
          status: 404,
          body: { code: "session_not_found", detail: "Session not found" },
        });
      const id = await service.create();
      await service.database.sql`update sessions set deleted_at = now() where id = ${id}`;
      expect((await get(`/sessions/${id}/events`)).status).toBe(404);
      expect((await get(`/sessions/${id}/events?include_deleted=false`)).status).toBe(404);
      expect((await get(`/sessions/${id}/events?include_deleted=true`)).body).toHaveLength(1);
      expect(await get(`/sessions/${id}/events?include_deleted=maybe`)).toMatchObject({
        status: 422,
        body: { errors: [{ parameter: "include_deleted" }] },
      });
    });
  });

  describe("a cursor", () => {
    const cursorOf = (answer: Answer) => /cursor=([^>&]+)/.exec(answer.headers.get("link") ?? "")?.[1] ?? "";
    const invalid = { status: 400, body: { code: "invalid_cursor" } };

    it("400 when it was altered, cut, or made for another list", async () => {
      const from = history[0]?.created_at;
      const paths = [
        "/events?limit=2",
        `/sessions/${first}/events?limit=2`,
        `/events?limit=2&created_after=${from}`,
        "/events?limit=2&event_type=updated",
        "/events?limit=2&order=desc",
        `/events?limit=2&after=${history[0]?.position}`,
        `/events?limit=2&aggregate_id=${first}`,
        "/events?limit=2&vocabulary=coding",
        "/events?limit=2&vocabulary=container",
      ];
      const cursors = new Map<string, string>();
      for (const path of paths) cursors.set(path, cursorOf(await get(path)));
      for (const [path, cursor] of cursors) {
        expect((await get(`${path}&cursor=${cursor}`)).status, path).toBe(200);
        const altered = [...cursor].map(
          (char, at) => cursor.slice(0, at) + (char === "A" ? "B" : "A") + cursor.slice(at + 1),
        );
        const others = [...cursors].filter(([other]) => other !== path).map(([, other]) => other);
        for (const bad of [...altered, ...others, cursor.slice(1), cursor.slice(0, -1), `${cursor}=`, "", "x", "%00"])
          expect(await get(`${path}&cursor=${bad}`), `${path} ${bad}`).toMatchObject(invalid);
      }
    });

    it("400 when somebody made it, its checksum right, of what is no place", async () => {
      const made = (payload: string, filters: string) =>
        Buffer.from(`${payload}|${crc32(`${payload}\n${filters}`).toString(36)}`).toString("base64url");
      const byTime = "created_after=2020-01-01T00%3A00%3A00.000000Z";
      const last = history.at(-2)?.position;
      expect((await get(`/events?cursor=${made(`${last}`, "/events?")}`)).body[0]).toEqual(history.at(-1));
      for (const [query, payload] of [
        ["", "one"],
        ["", "-1"],
        ["", "99999999999999999999"],
        ["", "9007199254740993"],
        ["", "1|2026-01-01T00:00:00.000000Z"],
        ["", ""],
        [byTime, "1"],
        [byTime, "1|2026-01-01T00:00:00.000000Z"],
        [byTime, "1|2026-01-01T00:00:00.000000Z|me"],
        [byTime, "1|2026-01-01T00:00:00.000000Z|1|1"],
        [byTime, "1|yesterday|1"],
        [byTime, "1|2026-02-31T00:00:00.000000Z|1"],
        [byTime, "1|0000-01-01T00:00:00.000000Z|1"],
      ] as const) {
        const answer = await get(`/events?${query}&cursor=${made(payload, `/events?${query}`)}`);
        expect(answer, payload).toMatchObject(invalid);
      }
      const large = made("9007199254740991", `/sessions/${first}/events?`);
      expect((await get(`/sessions/${first}/events?cursor=${large}`)).text).toBe("[]");
    });
  });

  describe("a position", () => {
    it.each(["abc", "-1", "1.5", "", "01", "1e3", "%00", "9".repeat(30)])("400 when it is %s", async (after) => {
      for (const path of ["/events", `/sessions/${first}/events`])
        expect(await get(`${path}?after=${after}`)).toMatchObject({ status: 400, body: { code: "invalid_cursor" } });
    });

    it("410 when nothing ever had it", async () => {
      for (const after of ["1000000000", "9".repeat(18)]) {
        for (const path of ["/events", `/sessions/${first}/events`])
          expect(await get(`${path}?after=${after}`)).toMatchObject({ status: 410, body: { code: "position_gone" } });
      }
    });
  });
});

describe("a feed that is written while it is read", () => {
  it("skips no event of a transaction that drew the earlier position and commits later", async () => {
    await using service = await startTestService();
    const early = await service.create();
    const late = await service.create();
    const seen: Told[] = [];
    let after = "0";
    const follow = async () => {
      for (;;) {
        const page: Told[] = (await service.request("GET", `/events?limit=2&after=${after}`)).body;
        seen.push(...page);
        after = page.at(-1)?.position ?? after;
        if (page.length < 2) return;
      }
    };
    const isSeen = (id: string, sequence: number) =>
      seen.some((event) => event.aggregate_id === id && event.sequence === sequence);
    const insert = (id: string) => `
      with counted as (update sessions set last_sequence = 2 where id = '${id}' returning 1)
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), '${id}', 2, 1, 'session.thinking', '{}', clock_timestamp() from counted`;
    let commit = () => {};
    const mayCommit = new Promise<void>((resolve) => {
      commit = resolve;
    });
    let drawn = () => {};
    const hasDrawn = new Promise<void>((resolve) => {
      drawn = resolve;
    });
    const slow = service.database.sql.begin(async (transaction) => {
      await transaction.unsafe(insert(early));
      drawn();
      await mayCommit;
    });
    await hasDrawn;
    await service.database.sql.begin((transaction) => transaction.unsafe(insert(late)));
    const third = await service.create();
    // Whether the feed waits for the open transaction, or passes it by and tells of it later: the reader need not know.
    await until(async () => {
      await follow();
      return isSeen(third, 1);
    }, "the feed to pass the open transaction by");
    expect(isSeen(late, 2)).toBe(true);
    expect(isSeen(early, 2)).toBe(false);
    commit();
    await slow;
    await until(async () => {
      await follow();
      return isSeen(early, 2);
    }, "the late event");
    expect(seen.map((event) => event.event_id)).toEqual([...new Set(seen.map((event) => event.event_id))]);
    expect(seen).toHaveLength(5);
  });

  it("200 gives a range of time as it was at the first page; what is settled meanwhile comes after its last position", async () => {
    await using service = await startTestService();
    const id = await service.create();
    const insert = async (sequence: number, createdAt: string) => {
      await service.database.sql`
        insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
        values (gen_random_uuid(), ${id}, ${sequence}, 1, 'session.thinking', '{}', ${createdAt})`;
      await allSettled(service);
    };
    for (const sequence of [2, 3, 4, 5]) await insert(sequence, `2020-01-01T00:00:0${sequence}Z`);
    for (const [order, expected] of [
      ["asc", [2, 3, 4, 5]],
      ["desc", [5, 4, 3, 2]],
    ] as const) {
      const range = "created_after=2020-01-01T00:00:00Z&created_before=2020-01-02T00:00:00Z&event_type=thinking";
      const before = await walk(service, `/events?${range}&order=${order}`);
      const first = await service.request("GET", `/events?${range}&order=${order}&limit=2`);
      const late = before.length + 2;
      await insert(late, "2020-01-01T00:00:03.5Z");
      const rest = await walk(service, nextOf(first) ?? "");
      const seen = [...first.body, ...rest];
      expect(seen).toEqual(before);
      expect(sequences(seen).filter((sequence) => sequence <= 5)).toEqual(expected);
      const after = Math.max(...positions(seen));
      expect(sequences((await service.request("GET", `/events?after=${after}`)).body)).toEqual([late]);
    }
  });

  it("gives each event once, and each session's in order, while four writers write", async () => {
    await using service = await startTestService();
    const ids = await Promise.all(Array.from({ length: 8 }, () => service.create()));
    let writing = true;
    const writers = Array.from({ length: 4 }, async (_, writer) => {
      for (let step = 0; step < 100; step++)
        await service.request("PATCH", `/sessions/${ids[(writer + step) % ids.length]}`, { context: { writer, step } });
    });
    const done = Promise.all(writers).then(() => {
      writing = false;
    });
    /** Follows until the writers have ended and all is read; by the last position, or by links as long as there are any. */
    const follow = async (byLinks: boolean) => {
      const seen: Told[] = [];
      let path = "/events?limit=7&after=0";
      for (;;) {
        const wasWriting = writing;
        if (!wasWriting) await allSettled(service);
        const answer = await service.request("GET", path);
        expect(answer.status).toBe(200);
        seen.push(...answer.body);
        const next = byLinks ? nextOf(answer) : undefined;
        if (answer.body.length === 0 && !wasWriting) return seen;
        path = next ?? `/events?limit=7&after=${seen.at(-1)?.position ?? 0}`;
      }
    };
    const readers = [follow(true), follow(false), follow(true)];
    await done;
    const all = await service.database.sql`select event_id from events order by position`;
    expect(all).toHaveLength(408);
    for (const seen of await Promise.all(readers)) {
      expect(seen.map((event) => event.event_id)).toEqual(all.map((row) => row["event_id"]));
      for (const id of ids) {
        const its = seen.filter((event) => event.aggregate_id === id);
        expect(sequences(its)).toEqual(its.map((_, at) => at + 1));
      }
    }
  });
});

describe("a history whose oldest events were removed", () => {
  let service: TestService;
  const old: string[] = [];
  let history: Told[];
  beforeAll(async () => {
    service = await startTestService();
    old.push(await service.create(), await service.create(), await service.create());
    for (const id of old.slice(0, 2)) await service.request("PATCH", `/sessions/${id}`, { checkpoint: { step: 1 } });
    await service.request("PATCH", `/sessions/${old[1]}`, { checkpoint: { step: 2 } });
    await allSettled(service);
    history = (await service.request("GET", "/events")).body;
    // What retention does: the first four, which are three creations and an update.
    const horizon = history[3]?.position ?? "";
    await service.database.sql`delete from events where position <= ${horizon}`;
    await service.database.sql`update relays set horizon = ${horizon}`;
  });
  afterAll(() => service.stop());
  const get = (path: string) => service.request("GET", path);
  const gone = { status: 410, body: { code: "position_gone" } };

  it("200 starts with what is kept, unless a position is named", async () => {
    expect((await get("/events")).body).toEqual(history.slice(4));
    expect((await get("/events?order=desc")).body).toEqual(history.slice(4).reverse());
    expect((await get(`/events?after=${history[3]?.position}`)).body).toEqual(history.slice(4));
    expect((await get(`/sessions/${old[1]}/events`)).body).toHaveLength(2);
  });

  it("410 for a position before what is kept, also for the very first", async () => {
    for (const after of ["0", ...positions(history.slice(0, 3))])
      expect(await get(`/events?after=${after}`), `${after}`).toMatchObject(gone);
  });

  it("410 for a cursor to pages that have been removed meanwhile", async () => {
    const id = await service.create();
    for (let step = 0; step < 4; step++) await report(service, id, "session.thinking");
    await allSettled(service);
    const feed = nextOf(await get("/events?limit=1")) ?? "";
    const session = nextOf(await get(`/sessions/${id}/events?limit=1`)) ?? "";
    const [row] = await service.database.sql`
      select position from events where session_id = ${id} and sequence = 2`;
    await service.database.sql`delete from events where position <= ${row?.["position"]}`;
    await service.database.sql`update relays set horizon = ${row?.["position"]}`;
    expect(await get(feed)).toMatchObject(gone);
    expect(await get(session)).toMatchObject(gone);
  });

  it("410 for a session's events only when some of them are missing", async () => {
    const fresh = await service.create();
    await allSettled(service);
    expect((await get(`/sessions/${fresh}/events?after=0`)).body).toHaveLength(1);
    expect(await get(`/sessions/${old[1]}/events?after=0`)).toMatchObject(gone);
    expect(await get(`/sessions/${old[2]}/events?after=0`)).toMatchObject(gone);
    expect((await get(`/sessions/${old[2]}/events`)).text).toBe("[]");
  });
});

describe("heavy events", () => {
  it("200 ends a page early, and links the rest", { timeout: 60_000 }, async () => {
    await using service = await startTestService();
    const id = await service.create();
    const count = 140;
    await service.database.sql`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), ${id}, 1 + n, 1, 'session.terminal',
        jsonb_build_object('output', repeat('x', ${250 * 1024}::int)), clock_timestamp()
      from generate_series(1, ${count}::int) n`;
    await allSettled(service);
    for (const path of ["/events?", `/sessions/${id}/events?order=desc&`, "/events?event_type=terminal,created&"]) {
      const answer = await service.request("GET", `${path}limit=1000`);
      expect(answer.text.length).toBeLessThanOrEqual(32 * 1024 * 1024);
      expect(answer.text.length).toBeGreaterThan(31 * 1024 * 1024);
      const rest = await service.request("GET", nextOf(answer) ?? "");
      const all = sequences([...answer.body, ...rest.body]).sort((a, b) => a - b);
      expect(all).toEqual(Array.from({ length: count + 1 }, (_, n) => n + 1));
    }
  });
});

describe("rare events", () => {
  it("200 ends a page early when much was looked at, and links the rest", async () => {
    await using service = await startTestService();
    const id = await service.create();
    await service.database.sql`
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), ${id}, 1 + n, 1, case when n in (1, 30000) then 'session.error' else 'session.terminal' end,
        '{}', clock_timestamp()
      from generate_series(1, 30000) n`;
    for (const [order, expected] of [
      ["asc", [2, 30001]],
      ["desc", [30001, 2]],
    ] as const) {
      const path = `/sessions/${id}/events?event_type=error&order=${order}`;
      const answer = await service.request("GET", path);
      expect(sequences(answer.body)).toEqual(expected.slice(0, 1));
      expect(sequences(await walk(service, path))).toEqual(expected);
    }
  });
});
