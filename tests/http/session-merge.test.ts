/** A session as a merge patch (RFC 7396): each object of it is merged into the one that there is. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { type Json, mergePatch } from "../support/json-model.ts";
import { startTestService, type TestService } from "../support/service.ts";

interface Vector {
  readonly target: Json;
  readonly patch: Json;
  readonly result: Json;
}
const vectors: readonly Vector[] = JSON.parse(readFileSync("tests/data/merge-patch/rfc7396.json", "utf8"));

const type = { "content-type": "application/merge-patch+json" };
const retention = { keep_last: 5, keep_days: 7 };
const objects = ["runtime_metadata", "resources", "guardrails", "metadata", "result"] as const;

const key = fc.constantFrom("a", "b", "c", "", "~", "a/b", "__proto__", "0");
const value = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constant(null),
    fc.integer(),
    fc.constantFrom("", "{", "null"),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  ),
})).value;
const object = fc.dictionary(key, value, { maxKeys: 4, noNullPrototype: true });

const nested = (name: string, levels: number) => `${`{"${name}":`.repeat(levels)}1${"}".repeat(levels)}`;

describe.each(coalescing)("a merge patch of a session, with COALESCE=%s", (COALESCE) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE });
  });
  afterAll(() => service.stop());

  const merge = (id: string, body: unknown, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, body, { ...type, ...headers });
  const read = (id: string) => service.request("GET", `/sessions/${id}`);
  const updates = async (id: string) => {
    const rows = await service.database.sql<{ updates: string[] | null }[]>`
      select payload -> 'updates' as updates from events where session_id = ${id} order by sequence`;
    return rows.slice(1).map((row) => row.updates);
  };
  const tableLabels = async (id: string) => {
    const rows = await service.database.sql<{ key: string; value: string }[]>`
      select key, value from session_labels where session_id = ${id}`;
    return Object.fromEntries(rows.map((row) => [row.key, row.value]));
  };

  it.each(objects)("200 merges %s, removes by null at any depth, and leaves the rest", async (name) => {
    const id = await service.create({ name: "n", labels: { a: "1" } });
    const first = await merge(id, { [name]: { a: 1, b: { c: 2, d: 3 }, e: [1, 2] } });
    expect(first.body[name]).toEqual({ a: 1, b: { c: 2, d: 3 }, e: [1, 2] });
    const answer = await merge(id, { [name]: { a: null, b: { c: 4, d: null }, e: [3, null], f: { g: null } } });
    expect(answer).toMatchObject({ status: 200, body: { version: 3, name: "n", labels: { a: "1" } } });
    expect(answer.body[name]).toEqual({ b: { c: 4 }, e: [3, null], f: {} });
    expect((await read(id)).text).toBe(answer.text);
    expect(await updates(id)).toEqual([[name], [name]]);
  });

  it("200 merges what is not there yet into nothing, so that no null of the patch is left", async () => {
    const id = await service.create();
    const { body } = await merge(id, { metadata: { a: { b: null, c: 1 } }, checkpoint: { d: null, e: 1 } });
    expect([body.metadata, body.checkpoint]).toEqual([{ a: { c: 1 } }, { e: 1 }]);
  });

  it("200 merges a checkpoint into the one that is shown, and keeps it as the next of the history", async () => {
    const id = await service.create({ checkpoint: { step: 1, files: { a: 1, b: 2 } } });
    const answer = await merge(id, { checkpoint: { step: 2, files: { b: null } } });
    expect(answer.body).toMatchObject({ checkpoint: { step: 2, files: { a: 1 } }, checkpoint_count: 2, version: 2 });
    expect((await service.request("GET", `/sessions/${id}/checkpoints/2`)).body.data).toEqual(answer.body.checkpoint);
    expect((await service.request("GET", `/sessions/${id}/checkpoints/1`)).body.data.step).toBe(1);
    const [sizes] = await service.database.sql`
      select s.checkpoint_bytes = octet_length(s.checkpoint::text) as shown, c.bytes = s.checkpoint_bytes as kept
      from sessions s join checkpoints c on c.session_id = s.id and c.number = 2 where s.id = ${id}`;
    expect(sizes).toEqual({ shown: true, kept: true });
    expect((await merge(id, { checkpoint: null })).body).toMatchObject({ checkpoint: null, checkpoint_count: 2 });
    const anew = await merge(id, { checkpoint: { again: true } });
    expect(anew.body).toMatchObject({ checkpoint: { again: true }, checkpoint_count: 3 });
    expect(anew.body.checkpoint).toEqual({ again: true });
  });

  it("200 sets some labels and removes others, in what is shown and in what they are found by", async () => {
    const id = await service.create({ labels: { a: "1", b: "2", c: "3" } });
    const answer = await merge(id, { labels: { a: null, b: "4", d: "5", never: null } });
    expect([answer.status, answer.body.labels]).toEqual([200, { b: "4", c: "3", d: "5" }]);
    expect(await tableLabels(id)).toEqual(answer.body.labels);
    const found = await service.request("GET", "/sessions/?label=b:4");
    expect(found.body.map((session: { id: string }) => session.id)).toContain(id);
    expect((await merge(id, { labels: null })).body.labels).toEqual({});
    expect(await tableLabels(id)).toEqual({});
    expect((await merge(id, { labels: { e: "1", f: null } })).body.labels).toEqual({ e: "1" });
    expect(await tableLabels(id)).toEqual({ e: "1" });
  });

  it("200 merges the rules of its checkpoints, and its error; a text is the whole of an error", async () => {
    const id = await service.create({ checkpoint_retention: retention });
    const rules = await merge(id, { checkpoint_retention: { keep_days: null, keep_daily_days: 9 } });
    expect(rules.body.checkpoint_retention).toEqual({ keep_last: 5, keep_daily_days: 9 });
    await merge(id, { error: { code: "oom", message: "killed" } });
    expect((await merge(id, { error: { code: null, stack: "at" } })).body.error).toEqual({
      message: "killed",
      stack: "at",
    });
    expect((await merge(id, { error: "again" })).body.error).toEqual({ message: "again" });
    const cleared = await merge(id, { error: null, checkpoint_retention: null });
    expect(cleared.body).toMatchObject({ error: null, checkpoint_retention: null });
  });

  it("200 replaces lists, texts and numbers, adds stats, and null clears what can be cleared", async () => {
    const agent = "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10";
    const id = await service.create({
      name: "n",
      repos: ["a", { url: "b", branch: "c" }],
      timeout_seconds: 5,
      stats: { a: 1 },
      metadata: { a: 1 },
      runtime_metadata: { pid: 1 },
    });
    const { body } = await merge(id, {
      name: "m",
      repos: [{ url: "b", branch: null }],
      agent_ids: [agent],
      stats: { a: 1 },
      result: [1, { a: null }],
    });
    expect(body).toMatchObject({ name: "m", agents: [{ id: agent }], stats: { a: 2 }, timeout_seconds: 5 });
    expect([body.repos, body.result]).toEqual([[{ url: "b", branch: null }], [1, { a: null }]]);
    const cleared = await merge(id, {
      name: null,
      repos: null,
      agents: null,
      timeout_seconds: null,
      metadata: null,
      result: null,
      runtime_metadata: null,
      status: null,
    });
    expect(cleared.body).toMatchObject({ name: null, repos: [], agents: [], timeout_seconds: null, status: "active" });
    expect([cleared.body.metadata, cleared.body.result, cleared.body.runtime_metadata]).toEqual([{}, null, { pid: 1 }]);
  });

  it("200 does all at once, with a transition, and tells of just what changed", async () => {
    const fields = { context: { a: 1, b: 2 }, checkpoint: { a: 1 }, runtime_metadata: { a: 1 }, metadata: { a: 1 } };
    const id = await service.create({ ...fields, labels: { a: "1" }, guardrails: { a: 1 } });
    const answer = await merge(id, {
      status: "paused",
      context: { a: null },
      checkpoint: { b: 1 },
      runtime_metadata: { a: 1 },
      guardrails: { a: 1, b: null },
      metadata: { b: 2 },
      labels: { a: "1", b: "1" },
    });
    expect(answer.body).toMatchObject({ version: 2, status: "paused", metadata: { a: 1, b: 2 } });
    expect(answer.body.context).toEqual({ b: 2 });
    expect(await updates(id)).toEqual([["status", "phase", "context", "checkpoint", "metadata", "labels"]]);
  });

  it("200 without a change: no version, no event, no checkpoint", async () => {
    const id = await service.create({
      checkpoint: { a: { b: 1 } },
      runtime_metadata: { a: 1 },
      metadata: { a: { b: [1] } },
      labels: { a: "1" },
      checkpoint_retention: retention,
    });
    const before = (await read(id)).text;
    for (const name of ["checkpoint", "runtime_metadata", "metadata", "labels", "checkpoint_retention"]) {
      expect((await merge(id, { [name]: {} })).text, name).toBe(before);
    }
    for (const body of [
      { checkpoint: { a: { b: 1, c: null } }, runtime_metadata: { x: null } },
      { metadata: { a: { b: [1] }, x: null }, labels: { a: "1", x: null } },
      { checkpoint_retention: { keep_last: 5, keep_daily_days: null } },
      { resources: null, guardrails: null, result: null, error: null },
    ]) {
      expect((await merge(id, body)).text, JSON.stringify(body)).toBe(before);
    }
    expect(await updates(id)).toEqual([]);
    const [row] = await service.database.sql`select version, checkpoint_count from sessions where id = ${id}`;
    expect(row).toEqual({ version: 1, checkpoint_count: 1 });
  });

  it("200 keeps every digit of what it names and of what it does not", async () => {
    const id = await service.create();
    const first = '{"big":123456789012345678901234567890,"exact":1.10,"deep":{"n":0.100,"__proto__":{"a":1}}}';
    await merge(id, `{"metadata":${first},"checkpoint":${first}}`);
    const second = '{"deep":{"m":2.00},"small":1e-2}';
    const answer = await merge(id, `{"metadata":${second},"checkpoint":${second}}`);
    const kept = '"big": 123456789012345678901234567890';
    expect(answer.text.split(kept)).toHaveLength(3);
    for (const text of ['"exact": 1.10', '"n": 0.100', '"m": 2.00', '"small": 0.01', '"__proto__": {"a": 1}']) {
      expect(answer.text.split(text), text).toHaveLength(3);
    }
    expect((await merge(id, '{"metadata":{"exact":1.1}}')).body.version).toBe(4);
  });

  it("200 as deep as a document may be nested, 422 for a patch that is deeper", async () => {
    const id = await service.create();
    for (const name of ["metadata", "checkpoint", "runtime_metadata"]) {
      expect((await merge(id, `{"${name}":${nested("a", 128)}}`)).status, name).toBe(200);
      expect((await merge(id, `{"${name}":${nested("b", 128)}}`)).status, name).toBe(200);
      expect((await merge(id, `{"${name}":${nested("a", 129)}}`)).body.code, name).toBe("nesting_too_deep");
      expect(Object.keys((await read(id)).body[name]), name).toEqual(["a", "b"]);
    }
  });

  it.each(vectors.map((vector) => [JSON.stringify(vector.target), JSON.stringify(vector.patch), vector] as const))(
    "200 merges as RFC 7396 says: into %s %s",
    async (_target, _patch, { target, patch, result }) => {
      const id = await service.create({ metadata: { of: target } });
      const { body } = await merge(id, { metadata: { of: patch } });
      // Within an object, null is its removal; elsewhere it stays.
      expect(body.metadata).toEqual(result === null ? {} : { of: result });
    },
  );

  it("200 merges whatever it is as RFC 7396 says, and is no change where that is none", async () => {
    await fc.assert(
      fc.asyncProperty(object, object, async (target, patch) => {
        const id = await service.create({ metadata: target, checkpoint: target });
        const { status, body } = await merge(id, { metadata: patch, checkpoint: patch });
        const expected = JSON.parse(JSON.stringify(mergePatch(target, patch)));
        expect(status).toBe(200);
        expect([body.metadata, body.checkpoint]).toEqual([expected, expected]);
        expect(body.version === 1).toBe(fc.stringify(sorted(expected)) === fc.stringify(sorted(target)));
      }),
      { numRuns: 80 },
    );
  });

  it.each([1, 2])("200 for 100 writers at once of a key and a label of their own: none is lost (%i)", async () => {
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    const old = Object.fromEntries(numbers.slice(0, 50).map((n) => [`old-${n}`, "x"]));
    const id = await service.create({ labels: old, metadata: old, checkpoint: { start: 1 } });
    const answers = await Promise.all(
      numbers.map((n) =>
        n % 2 === 0
          ? merge(id, { metadata: { [`new-${n}`]: n }, labels: { [`new-${n}`]: `${n}`, [`old-${n / 2}`]: null } })
          : merge(id, { metadata: { [`new-${n}`]: n, [`old-${(n - 1) / 2}`]: null }, checkpoint: { [`k${n}`]: n } }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const { body } = await read(id);
    const even = numbers.filter((n) => n % 2 === 0);
    expect(body.metadata).toEqual(Object.fromEntries(numbers.map((n) => [`new-${n}`, n])));
    expect(body.labels).toEqual(Object.fromEntries(even.map((n) => [`new-${n}`, `${n}`])));
    expect(await tableLabels(id)).toEqual(body.labels);
    expect(Object.keys(body.checkpoint)).toHaveLength(51);
    expect([body.version, body.checkpoint_count]).toEqual([101, 51]);
  });

  it("409 and 412 as any other change, and nothing is merged; a good lease is renewed", async () => {
    await service.create({ status: "pending", metadata: { a: 1 } });
    const claim = await service.request("POST", "/sessions/claim", { worker_id: "w", lease_seconds: 60 });
    const { id } = claim.body;
    const before = (await read(id)).text;
    expect((await merge(id, { metadata: { b: 1 } }, { "if-match": '"77"' })).body.code).toBe("precondition_failed");
    expect((await merge(id, { metadata: { b: 1 } }, { "lease-token": "999" })).body.code).toBe("lease_lost");
    expect((await merge(id, { metadata: { b: 1 }, phase: "pending" })).body.code).toBe("invalid_transition");
    expect((await read(id)).text).toBe(before);
    const held = { "lease-token": String(claim.body.lease_token), "if-match": `"${claim.body.version}"` };
    const { status, body } = await merge(id, { metadata: { b: 1 } }, held);
    expect([status, body.metadata]).toEqual([200, { a: 1, b: 1 }]);
    expect(body.lease_expires_at > claim.body.lease_expires_at).toBe(true);
  });

  it("404 of no session", async () => {
    const answer = await merge("00000000-0000-0000-0000-000000000000", { metadata: { a: 1 }, labels: { a: "1" } });
    expect(answer).toMatchObject({ status: 404, body: { code: "session_not_found" } });
  });

  it.each<[object, string]>([
    [{ labels: { a: 1, b: null } }, "/labels/a"],
    [{ labels: { a: { b: null } } }, "/labels/a"],
    [{ labels: { "\n": "x" } }, "/labels/\n"],
    [{ labels: [null] }, "/labels"],
    [{ metadata: [] }, "/metadata"],
    [{ checkpoint: "x" }, "/checkpoint"],
    [{ checkpoint_retention: { keep_last: -1 } }, "/checkpoint_retention/keep_last"],
    [{ checkpoint_retention: { for: null } }, "/checkpoint_retention/for"],
  ])("422 for %j", async (fields, pointer) => {
    const id = await service.create({ labels: { a: "1" } });
    expect(await merge(id, fields)).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ pointer }] },
    });
    expect((await read(id)).body.version).toBe(1);
  });

  it("422 for a null label as application/json, which replaces them", async () => {
    const id = await service.create({ labels: { a: "1" } });
    const answer = await service.request("PATCH", `/sessions/${id}`, { labels: { a: null } });
    expect(answer).toMatchObject({ status: 422, body: { errors: [{ pointer: "/labels/a" }] } });
    const replaced = await service.request("PATCH", `/sessions/${id}`, { metadata: { a: null }, labels: { b: "1" } });
    expect([replaced.body.metadata, replaced.body.labels]).toEqual([{ a: null }, { b: "1" }]);
  });

  it("422 for more than 100 labels with those that there are; 100 may be replaced by 100 others", async () => {
    const named = (prefix: string, count: number, text: string | null) =>
      Object.fromEntries(Array.from({ length: count }, (_, n) => [`${prefix}-${n}`, text]));
    const id = await service.create({ labels: named("a", 99, "1") });
    expect((await merge(id, { labels: named("b", 1, "1") })).status).toBe(200);
    expect(await merge(id, { labels: { more: "1" }, metadata: { a: 1 } })).toMatchObject({
      status: 422,
      body: { code: "validation_failed", errors: [{ pointer: "/labels" }] },
    });
    expect((await read(id)).body).toMatchObject({ version: 2, metadata: {} });
    const others = await merge(id, {
      labels: { ...named("a", 99, null), ...named("b", 1, null), ...named("c", 100, "1") },
    });
    expect([others.status, others.body.labels]).toEqual([200, named("c", 100, "1")]);
    expect(await tableLabels(id)).toEqual(others.body.labels);
    expect((await merge(id, { labels: named("d", 101, "1") })).status).toBe(422);
  });
});

describe.each(coalescing)("a merge that would make too much, with COALESCE=%s", (COALESCE) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE, CHECKPOINT_LIMIT_BYTES: "2000", BODY_LIMIT_BYTES: "4000" });
  });
  afterAll(() => service.stop());
  const merge = (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body, type);

  it.each([
    ["checkpoint", 2_000, "CHECKPOINT_LIMIT_BYTES"],
    ...objects.map((name) => [name, 4_000, "BODY_LIMIT_BYTES"] as const),
  ] as const)(
    "413 document_too_large for %s of more than %i bytes, and nothing changes",
    async (name, limit, setting) => {
      const id = await service.create({ labels: { a: "1" } });
      const half = limit / 2;
      expect((await merge(id, { [name]: { large: "x".repeat(half), small: 1 } })).status).toBe(200);
      const before = (await service.request("GET", `/sessions/${id}`)).text;
      const more = { [name]: { more: "y".repeat(half + 100) } };
      for (const body of [more, { ...more, labels: { b: "1" } }]) {
        const answer = await merge(id, body);
        expect(answer).toMatchObject({ status: 413, body: { code: "document_too_large", limit_bytes: limit } });
        expect(answer.body.largest.map(({ key }: { key: string }) => key)).toEqual(["more", "large", "small"]);
        expect(answer.body.bytes).toBeGreaterThan(limit);
        expect(answer.body.detail).toContain(name);
        expect(answer.body.detail).toContain(setting);
      }
      expect((await service.request("GET", `/sessions/${id}`)).text).toBe(before);
      expect((await merge(id, { [name]: { more: "y".repeat(half - 100) } })).status).toBe(200);
    },
  );

  it("200 where it makes one that is too large smaller, or changes another one", async () => {
    const id = await service.create({ metadata: { a: "x" } });
    const large = JSON.stringify({ metadata: { a: "x".repeat(3_000), b: "y".repeat(3_000) } });
    await service.database.sql`update sessions set details = ${large}::text::jsonb where id = ${id}`;
    expect((await merge(id, { metadata: { c: 1 } })).status).toBe(413);
    expect((await merge(id, { resources: { a: 1 }, name: "n" })).status).toBe(200);
    const smaller = await merge(id, { metadata: { a: "x".repeat(2_000) } });
    expect([smaller.status, smaller.body.metadata.a.length]).toEqual([200, 2_000]);
  });
});

/** With its keys in one order: the database keeps none. */
function sorted(value: Json): Json {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([name, member]) => [name, sorted(member)]));
}
