/** Figures of the work: posted ones add up exactly, whoever posts at the same time. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { type Answer, agentId, startTestService, type TestService } from "../support/service.ts";

/** The text of the stats in an answer: what `JSON.parse` makes of their numbers does not count. */
const statsText = (answer: Answer, name = "stats") => new RegExp(`"${name}":(\\{[^}]*\\})`).exec(answer.text)?.[1];

describe.each(coalescing)("stats with COALESCE=%s", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());
  const patch = (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body);

  it("100 posts at the same time add up exactly, one version and one event each", async () => {
    const id = await service.create({ stats: { input_tokens: 7, kept: 1 } });
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => {
        const body = { stats: { input_tokens: n + 1, iterations: 1, cost: 0.1 } };
        return n % 2 === 0
          ? patch(id, body)
          : service.request("POST", `/sessions/${id}/resume`, body, n % 10 === 1 ? { "idempotency-key": `${n}` } : {});
      }),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const session = await service.request("GET", `/sessions/${id}`);
    expect(session.body.stats).toEqual({ input_tokens: 5_057, iterations: 100, cost: 10, kept: 1 });
    expect(statsText(session)).toContain('"cost": 10.0');
    expect(session.body.version).toBe(101);
    const events = await service.database.sql`
      select payload -> 'updates' as updates from events where session_id = ${id} and sequence > 1`;
    expect(events.map(({ updates }) => updates)).toEqual(Array.from({ length: 100 }, () => ["stats"]));
  });

  it("the greatest of 100 gauges stays, whoever comes last", async () => {
    const id = await service.create();
    const values = Array.from({ length: 100 }, (_, n) => (n * 37) % 100);
    const answers = await Promise.all(
      values.map((cpu) => patch(id, { stats_max: { cpu, memory: -cpu - 1, [`of_${cpu % 10}`]: cpu } })),
    );
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    const { stats_max: gauges } = (await service.request("GET", `/sessions/${id}`)).body;
    expect(gauges).toMatchObject({ cpu: 99, memory: -1, of_0: 90, of_9: 99 });
    expect(Object.keys(gauges)).toHaveLength(12);
  });
});

describe("stats", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());
  const patch = (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body);
  const read = (id: string) => service.request("GET", `/sessions/${id}`);

  it("are exact where a double is not", async () => {
    const id = await service.create();
    for (const stats of [
      '{"a": 0.1, "b": 9007199254740993, "c": 1e20, "d": 1.10}',
      '{"a": 0.2, "b": 9007199254740993, "c": 0.00000000000000000001, "d": -1.1}',
    ]) {
      expect((await patch(id, `{"stats":${stats}}`)).status).toBe(200);
    }
    const text = statsText(await read(id));
    for (const sum of [
      '"a": 0.3',
      '"b": 18014398509481986',
      '"c": 100000000000000000000.00000000000000000001',
      '"d": 0.00',
    ]) {
      expect(text).toContain(sum);
    }
  });

  it("can go down, and below zero", async () => {
    const id = await service.create({ stats: { left: 5 } });
    expect((await patch(id, { stats: { left: -7.5, new: -1 } })).body.stats).toEqual({ left: -2.5, new: -1 });
  });

  it("stats_set replaces those it names; what is added in the same request comes on top", async () => {
    const id = await service.create({ stats: { a: 1, b: 2 } });
    expect((await patch(id, '{"stats_set":{"a":10.0,"c":3}}')).body.stats).toEqual({ a: 10, b: 2, c: 3 });
    expect(statsText(await read(id))).toContain('"a": 10.0');
    const both = { stats_set: { a: 100 }, stats: { a: 1, b: 1, d: 1 } };
    expect((await patch(id, both)).body.stats).toEqual({ a: 101, b: 3, c: 3, d: 1 });
  });

  it("stats_max keeps the greater, beside the stats of the same name", async () => {
    const id = await service.create({ stats: { memory: 1 }, stats_max: { memory: 5, cpu: 0.5 } });
    const answer = await patch(id, { stats_max: { memory: 3, cpu: 0.75, storage: -1 } });
    expect(answer.body).toMatchObject({
      stats: { memory: 1 },
      stats_max: { memory: 5, cpu: 0.75, storage: -1 },
      version: 2,
    });
  });

  it("that change nothing make no version and no event", async () => {
    const id = await service.create({ stats: { a: 1 }, stats_max: { b: 2 } });
    const before = (await read(id)).text;
    for (const body of [
      { stats: {} },
      { stats: null, stats_set: null, stats_max: null },
      { stats: { a: 0 } },
      { stats_set: {} },
      { stats_set: { a: 1 } },
      { stats_max: {} },
      { stats_max: { b: 1 } },
      '{"stats_max":{"b":2.0}}',
    ]) {
      expect([body, (await patch(id, body)).text]).toEqual([body, before]);
    }
    expect(await service.database.sql`select from events where session_id = ${id}`).toHaveLength(1);
  });

  it("of more than 100 names are refused, also where they come little by little", async () => {
    const id = await service.create();
    const names = (from: number, count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`n${from + n}`, 1]));
    for (const [name, field] of [
      ["stats", "stats"],
      ["stats_set", "stats"],
      ["stats_max", "stats_max"],
    ] as const) {
      await patch(id, { stats_set: names(0, 60), stats_max: names(0, 60) });
      expect((await patch(id, { [name]: names(60, 40) })).status).toBe(200);
      const before = (await read(id)).text;
      for (const more of [names(99, 2), names(100, 1), names(1_000, 100)]) {
        const answer = await patch(id, { [name]: more, phase: "paused", context: { n: 1 } });
        expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: `/${field}` }] } });
      }
      expect((await read(id)).text).toBe(before);
      expect((await patch(id, { [name]: names(0, 100) })).status).toBe(200);
      for (const verb of ["crash", "recover"])
        await service.request("POST", `/sessions/${id}/${verb}`, { reset: true });
      await service.request("POST", `/sessions/${id}/start`);
    }
  });

  it("stay when the session is paused, completed, or recovered", async () => {
    const id = await service.create({ stats: { a: 1 } });
    for (const verb of ["pause", "resume", "crash", "recover", "start", "complete", "restart"]) {
      const answer = await service.request("POST", `/sessions/${id}/${verb}`, { stats: { a: 1 } });
      expect([verb, answer.status]).toEqual([verb, 200]);
    }
    expect((await read(id)).body.stats).toEqual({ a: 8 });
  });

  it("may have names that JavaScript has uses for", async () => {
    const id = await service.create();
    for (const name of [
      "constructor",
      "toString",
      "hasOwnProperty",
      "a b",
      "ключ",
      "a/b~c",
      "'; drop table sessions",
    ]) {
      await patch(id, { stats: { [name]: 1 }, stats_max: { [name]: 1 } });
      const { stats, stats_max: gauges } = (await patch(id, { stats: { [name]: 2 } })).body;
      expect([stats[name], gauges[name]]).toEqual([3, 1]);
    }
  });

  const many = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`n${n}`, n]));
  const huge = `1${"0".repeat(400)}`;
  const bad: readonly (readonly [value: string, pointer: string])[] = [
    ['{"a":"1"}', "/a"],
    ['{"a":true}', "/a"],
    ['{"a":null}', "/a"],
    ['{"a":{"b":1}}', "/a"],
    ['{"a":[1]}', "/a"],
    ['{"ok":1,"a/b":"x"}', "/a~1b"],
    ['{"a":1e400}', "/a"],
    ['{"a":-1e400}', "/a"],
    ['{"a":1e309}', "/a"],
    [`{"a":${huge}}`, "/a"],
    ['{"a":1e-401}', "/a"],
    ['{"__proto__":"x"}', "/__proto__"],
    ['{"__proto__":{"a":1}}', "/__proto__"],
    ['{"constructor":"x"}', "/constructor"],
    ['{"":1}', "/"],
    ['{"a\\u0000":1}', "/a\ufffd"],
    ['{"a\\nb":1}', "/a\nb"],
    [`{"${"x".repeat(256)}":1}`, `/${"x".repeat(256)}`],
    [JSON.stringify(many), ""],
    ["[]", ""],
    ["[1]", ""],
    ['"5"', ""],
    ["5", ""],
    ["true", ""],
  ];

  it.each(bad)("422 names what is wrong with %s, and nothing changes", async (value, pointer) => {
    const id = await service.create({ stats: { a: 1 } });
    for (const name of ["stats", "stats_set", "stats_max"]) {
      for (const [method, path] of [
        ["PATCH", ""],
        ["PATCH", "/status"],
        ["POST", "/complete"],
      ] as const) {
        const answer = await service.request(method, `/sessions/${id}${path}`, `{"${name}":${value}}`);
        expect([answer.status, answer.body.errors?.[0].pointer]).toEqual([422, `/${name}${pointer}`]);
      }
      if (name === "stats_set") continue;
      const created = await service.request("POST", "/sessions/", `{"agent_id":"${agentId}","${name}":${value}}`);
      expect([created.status, created.body.errors?.[0].pointer]).toEqual([422, `/${name}${pointer}`]);
    }
    expect((await read(id)).body).toMatchObject({ version: 1, stats: { a: 1 } });
  });

  it.each(["NaN", "Infinity", "-Infinity", "0x10", "1_000", "01", "+1", ".5"])(
    "400 for %s, which is no JSON",
    async (number) => {
      const id = await service.create();
      expect(await patch(id, `{"stats":{"a":${number}}}`)).toMatchObject({
        status: 400,
        body: { code: "malformed_json" },
      });
    },
  );
});
