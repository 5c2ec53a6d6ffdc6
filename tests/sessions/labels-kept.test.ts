/** The labels of sessions have a table of their own, to be found by. It says what the sessions show, whatever they meet. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { holdSessions, untilStuck } from "../support/held-lock.ts";
import { startReplica } from "../support/replica.ts";
import { agentId, send, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

type Labels = Readonly<Record<string, string>>;

/** Rows of the table that no session shows, and labels that are shown and have no row. Of deleted sessions too. */
const differences = ({ database }: TestService) => database.sql`
  with shown as (
    select s.namespace, s.id as session_id, label.key, label.value, s.created_at
    from sessions s cross join lateral jsonb_each_text(s.details -> 'labels') label
  ), kept as (
    select namespace, session_id, key, value, created_at from session_labels
  )
  (select 'not kept' as what, * from shown except all select 'not kept', * from kept)
  union all
  (select 'not shown', * from kept except all select 'not shown', * from shown)`;

async function labelsOf({ database }: TestService, id: string): Promise<Labels> {
  const rows = await database.sql<{ key: string; value: string }[]>`
    select key, value from session_labels where session_id = ${id} order by key`;
  return Object.fromEntries(rows.map(({ key, value }) => [key, value]));
}

/** Where each row of a session lies: another place, once it was written again. */
async function placesOf({ database }: TestService, id: string): Promise<Labels> {
  const rows = await database.sql<{ key: string; place: string }[]>`
    select key, ctid::text || '/' || xmin::text as place from session_labels where session_id = ${id}`;
  return Object.fromEntries(rows.map(({ key, place }) => [key, place]));
}

const mergePatch = { "content-type": "application/merge-patch+json" };

describe.each(coalescing)("with COALESCE=%s", (COALESCE) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE });
  });
  afterAll(() => service.stop());

  const patch = (id: string, fields: object, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, fields, headers);

  async function expectKept(id: string, labels: Labels): Promise<void> {
    expect(await labelsOf(service, id)).toEqual(labels);
    expect((await service.request("GET", `/sessions/${id}`)).body.labels).toEqual(labels);
    expect(await differences(service)).toEqual([]);
  }

  it("a new session's labels are kept with its time; one that has none keeps none", async () => {
    const labels = { team: "search", "x y": "", ünïcödé: "👩‍💻", __proto: '"' };
    const id = await service.create({ labels, name: "n", context: { a: 1 } });
    await service.create();
    await service.create({ name: "n", labels: null });
    await service.create({ labels: {} });
    await expectKept(id, labels);
  });

  it("labels that are added, changed and removed are, and the others are not touched", async () => {
    const id = await service.create({ labels: { stays: "1", changes: "1", goes: "1" } });
    const before = await placesOf(service, id);
    expect((await patch(id, { labels: { stays: "1", changes: "2", comes: "1" } })).status).toBe(200);
    await expectKept(id, { stays: "1", changes: "2", comes: "1" });
    expect((await placesOf(service, id))["stays"]).toBe(before["stays"]);
    expect((await placesOf(service, id))["changes"]).not.toBe(before["changes"]);
  });

  it.each<[string, unknown]>([
    ["null", null],
    ["an empty object", {}],
  ])("%s removes them all", async (_, labels) => {
    const id = await service.create({ labels: { a: "1", b: "2" } });
    expect((await patch(id, { labels })).status).toBe(200);
    await expectKept(id, {});
    expect((await patch(id, { labels: { b: "3" } })).status).toBe(200);
    await expectKept(id, { b: "3" });
  });

  it("a merge patch sets those that it names, removes those that it says are null, and leaves the others", async () => {
    const id = await service.create({ labels: { a: "1", b: "2", c: "1" }, context: { a: 1, b: 2 } });
    const before = await placesOf(service, id);
    const answer = await patch(id, { labels: { b: "3", c: null, d: "4" }, context: { a: null } }, mergePatch);
    expect(answer).toMatchObject({ status: 200, body: { context: { b: 2 }, version: 2 } });
    await expectKept(id, { a: "1", b: "3", d: "4" });
    expect((await placesOf(service, id))["a"]).toBe(before["a"]);
    expect((await patch(id, { labels: { b: null, x: null } })).status).toBe(422);
    await expectKept(id, { a: "1", b: "3", d: "4" });
  });

  it("what is refused, or says what is so already, or names no labels, leaves them alone", async () => {
    const id = await service.create({ labels: { a: "1", b: "2" } });
    const tooMany = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`new-${n}`, 1]));
    await patch(id, { stats: Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`old-${n}`, 1])) });
    const before = await placesOf(service, id);
    expect((await patch(id, { labels: { b: "2", a: "1" } })).body.version).toBe(2);
    expect((await patch(id, { labels: { a: "2" } }, { "if-match": '"7"' })).status).toBe(412);
    expect((await patch(id, { labels: { a: "2" }, lease_token: 1 })).status).toBe(409);
    expect((await patch(id, { labels: { a: "2" }, stats: tooMany })).status).toBe(422);
    expect((await patch(id, { labels: { a: 2 } })).status).toBe(422);
    expect((await patch(id, { name: "n", checkpoint: { step: 1 }, context: { a: 1 } })).body.version).toBe(3);
    expect((await patch(id, { name: "m", labels: { a: "1", b: "2" } })).body.version).toBe(4);
    expect(await placesOf(service, id)).toEqual(before);
    await expectKept(id, { a: "1", b: "2" });
  });

  it("a change of labels says so in the event, once, with all that it changes", async () => {
    const id = await service.create({ labels: { a: "1" } });
    await patch(id, { labels: { b: "1" }, checkpoint: { step: 1 }, context: { n: 1 }, name: "n", status: "paused" });
    const events = await service.database.sql<{ payload: { updates?: string[] } }[]>`
      select payload from events where session_id = ${id} order by sequence`;
    expect(events.map(({ payload }) => payload.updates)).toEqual([
      undefined,
      ["status", "phase", "context", "checkpoint", "name", "labels"],
    ]);
    const checkpoints = await service.database.sql`select 1 from checkpoints where session_id = ${id}`;
    expect(checkpoints).toHaveLength(1);
    await expectKept(id, { b: "1" });
  });

  it.each([1, 2])("50 changes at once of the labels of one session leave those of the last (%i)", async () => {
    const id = await service.create({ labels: { start: "1" } });
    const labels = (n: number) =>
      Object.fromEntries(["a", "b", "c", "d"].filter((_, at) => (n >> at) % 2 === 1).map((key) => [key, `${n % 5}`]));
    const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => patch(id, { labels: labels(n) })));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const { body } = await service.request("GET", `/sessions/${id}`);
    expect(answers.find((answer) => answer.body.version === body.version)?.body.labels).toEqual(body.labels);
    await expectKept(id, body.labels);
  });

  it("100 sessions created at once, and changed at once, keep each its own", async () => {
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    const own = (n: number) => ({ n: `${n}`, team: `t${n % 3}`, [`key-${n}`]: "x" });
    const ids = await Promise.all(numbers.map((n) => service.create(n % 4 === 0 ? {} : { labels: own(n) })));
    expect(await differences(service)).toEqual([]);
    await Promise.all(numbers.map((n) => patch(ids[n] ?? "", n % 5 === 0 ? { name: "n" } : { labels: own(n + 1) })));
    for (const n of [3, 4, 5]) await expectKept(ids[n] ?? "", own(n % 5 === 0 ? n : n + 1));
  });

  it("100 labels of the longest keys and values are kept, of any characters, and removed again", async () => {
    // The most characters of a value: those beyond U+FFFF count twice there.
    for (const [wide, most] of [
      ["a", 255],
      ["語", 255],
      ["𠀀", 127],
    ] as const) {
      // No two alike, so that nothing is saved by compressing them.
      const text = (n: number, length: number) =>
        String.fromCodePoint(
          ...Array.from({ length }, (_, at) => (wide.codePointAt(0) ?? 0) + ((at * at * 7 + n * 13) % 26)),
        );
      const numbers = Array.from({ length: 100 }, (_, n) => n);
      const labels = Object.fromEntries(numbers.map((n) => [`${n + 100}${text(n, 252)}`, text(n, most)]));
      const id = await service.create({ labels });
      await expectKept(id, labels);
      expect((await patch(id, { labels: {} })).status).toBe(200);
      expect((await patch(id, { labels })).status).toBe(200);
      await expectKept(id, labels);
    }
  });

  it("deleted softly a session keeps them, removed for good it leaves none", async () => {
    const [softly, removed] = [
      await service.create({ labels: { a: "1" } }),
      await service.create({ labels: { a: "1" } }),
    ];
    const isGone = async () =>
      (await service.database.sql`select 1 from session_labels where session_id = ${removed}`).length === 0;
    expect((await service.request("DELETE", `/sessions/${softly}`)).status).toBe(204);
    expect((await service.request("DELETE", `/sessions/${removed}?hard=true`)).status).toBe(204);
    await until(isGone, "the labels to be gone");
    expect(await labelsOf(service, softly)).toEqual({ a: "1" });
    expect(await differences(service)).toEqual([]);
  });

  it("whatever is changed, in whatever order, they are what is shown", async () => {
    const some = fc.dictionary(fc.constantFrom("a", "b", "c", "team", "é"), fc.constantFrom("", "1", "2", "é"), {
      noNullPrototype: true,
    });
    const step = fc.record(
      {
        labels: fc.option(some),
        name: fc.constantFrom("x", "y", null),
        context: fc.constantFrom({}, { a: 1 }),
        merges: fc.boolean(),
      },
      { requiredKeys: ["merges"] },
    );
    await fc.assert(
      fc.asyncProperty(some, fc.array(step, { maxLength: 6 }), fc.boolean(), async (first, steps, together) => {
        const id = await service.create({ labels: first });
        const change = ({ merges, ...fields }: { merges: boolean }) =>
          patch(id, fields, merges ? mergePatch : undefined);
        const answers = [];
        if (together) answers.push(...(await Promise.all(steps.map(change))));
        else for (const one of steps) answers.push(await change(one));
        for (const { status, text } of answers) expect(status, text).toBe(200);
        let expected: Labels = first;
        for (const { labels, merges } of steps) {
          if (labels === undefined) continue;
          expected = merges && labels !== null ? { ...expected, ...labels } : (labels ?? {});
        }
        const { labels } = (await service.request("GET", `/sessions/${id}`)).body;
        if (!together) expect(labels).toEqual(expected);
        await expectKept(id, labels);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a change that waits for another one", () => {
  const first = { a: "1", b: "1" };

  // Each of them waits, behind those before it, with what it saw of the labels when it began.
  it.each<[string, readonly Labels[]]>([
    ["was added meanwhile", [{ ...first, new: "1" }, first]],
    ["stands beside one that was added meanwhile", [{ ...first, new: "1" }, { new: "1" }]],
    ["was changed meanwhile", [{ ...first, a: "2" }, { b: "1" }]],
    ["was removed and added again meanwhile", [{ b: "1" }, { b: "1", a: "1" }, {}]],
  ])("removes a label that %s", async (_, inOrder) => {
    await using service = await startTestService({ COALESCE: "off" });
    const id = await service.create({ labels: first });
    const answers = [];
    {
      await using _lock = await holdSessions(service.database, [id]);
      for (const [at, labels] of inOrder.entries()) {
        answers.push(service.request("PATCH", `/sessions/${id}`, { labels }));
        await untilStuck(service.database, at + 1);
      }
    }
    const made = await Promise.all(answers);
    expect(made.map(({ status, body }) => [status, body.labels])).toEqual(inOrder.map((labels) => [200, labels]));
    // Once the first of them is done, the others are let in in any order.
    const last = made
      .map(({ body }) => body)
      .toSorted((a, b) => a.version - b.version)
      .at(-1);
    expect(last.version).toBe(inOrder.length + 1);
    expect(await labelsOf(service, id)).toEqual(last.labels);
    expect(await differences(service)).toEqual([]);
  });

  it("merges into what the labels are by then, and removes one that was merged meanwhile", async () => {
    await using service = await startTestService({ COALESCE: "off" });
    const id = await service.create({ labels: first });
    const merges = [{ new: "1", a: null }, { c: "1" }, { new: null, a: "2" }];
    const answers = [];
    {
      await using _lock = await holdSessions(service.database, [id]);
      for (const [at, labels] of merges.entries()) {
        answers.push(service.request("PATCH", `/sessions/${id}`, { labels }, mergePatch));
        await untilStuck(service.database, at + 1);
      }
    }
    // Once the first of them is done, the others are let in in any order.
    const made = (await Promise.all(answers)).map(({ status, body: { version, labels } }, at) => {
      return { status, version, labels, patch: merges[at] };
    });
    let expected: object = first;
    for (const { status, version, labels, patch } of made.toSorted((a, b) => a.version - b.version)) {
      const merged = Object.entries({ ...expected, ...patch }).filter(([, value]) => value !== null);
      expected = Object.fromEntries(merged);
      expect([status, labels], `version ${version}`).toEqual([200, expected]);
    }
    expect(made.map(({ version }) => version).toSorted()).toEqual([2, 3, 4]);
    expect(await differences(service)).toEqual([]);
  });

  it("of another service leaves what is shown: 200 at once of 4 sessions, while their checkpoints are saved", async () => {
    await using service = await startTestService();
    await using replica = await startReplica(service, { RELAY: "off", COALESCE: "off" });
    const ids = await Promise.all(Array.from({ length: 4 }, () => service.create({ labels: first })));
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(
        Array.from({ length: 200 }, (_, n) => {
          const url = `${n % 2 === 0 ? service.url : replica.url}/sessions/${ids[(n >> 1) % 4]}`;
          const labels = Object.fromEntries(
            ["a", "b", "c"].filter((_, at) => ((n * 5 + round) >> at) % 2 === 0).map((key) => [key, `${n % 3}`]),
          );
          return send(url, "PATCH", n % 3 === 0 ? { checkpoint: { n, round } } : { labels });
        }),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect(await differences(service)).toEqual([]);
    }
  });

  it("is made, as one of 50 that all remove what the others write, in a service that sends each for itself", async () => {
    await using service = await startTestService({ COALESCE: "off" });
    const id = await service.create({ labels: first, agent_id: agentId });
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, n) =>
          service.request("PATCH", `/sessions/${id}`, { labels: { [`key-${n}`]: `${round}` } }),
        ),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
      expect(Object.keys(await labelsOf(service, id))).toHaveLength(1);
      expect(await differences(service)).toEqual([]);
    }
  });
});
