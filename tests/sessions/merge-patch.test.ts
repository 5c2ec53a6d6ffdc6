/** RFC 7396 as the database does it, against the RFC's vectors and the RFC's own words. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Json, mergePatch } from "../support/json-model.ts";

interface Vector {
  readonly target: Json;
  readonly patch: Json;
  readonly result: Json;
}
const vectors: readonly Vector[] = JSON.parse(readFileSync("tests/data/merge-patch/rfc7396.json", "utf8"));

const key = fc.constantFrom("a", "b", "c", "", "~", "a/b", "__proto__", "0");
const value = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.constantFrom("", "{", "null"),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(key, tie("value"), { maxKeys: 4, noNullPrototype: true }),
  ),
})).value;

describe("merge_patch", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());
  const merged = async (target: string, patch: string) => {
    const [row] = await database.sql<{ text: string }[]>`
      select merge_patch(${target}::text::jsonb, ${patch}::text::jsonb)::text as text`;
    return row?.text ?? "";
  };

  it.each(vectors)("$target with $patch is $result", async ({ target, patch, result }) => {
    expect(JSON.parse(await merged(JSON.stringify(target), JSON.stringify(patch)))).toEqual(result);
  });

  it("does what the RFC says, whatever the target and the patch", async () => {
    await fc.assert(
      fc.asyncProperty(value, value, async (target, patch) => {
        const text = await merged(JSON.stringify(target), JSON.stringify(patch));
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(mergePatch(target, patch))));
      }),
      { numRuns: 400 },
    );
  });

  it("changes no digit of what it does not name, nor of what it writes", async () => {
    const target = '{"a": 1.0, "b": 12345678901234567890123, "c": {"d": 0.10, "e": 1}}';
    expect(await merged(target, '{"c":{"e":2.50}}')).toBe(
      '{"a": 1.0, "b": 12345678901234567890123, "c": {"d": 0.10, "e": 2.50}}',
    );
  });

  it("removes very many members as it removes one", async () => {
    const names = Array.from({ length: 50_000 }, (_, n) => `k${n}`);
    const target = JSON.stringify(Object.fromEntries([...names, "kept"].map((name) => [name, 1])));
    const patch = JSON.stringify(Object.fromEntries(names.map((name) => [name, null])));
    expect(await merged(target, patch)).toBe('{"kept": 1}');
  });

  it("takes over and merges very many members alike", async () => {
    const names = Array.from({ length: 20_000 }, (_, n) => `k${n}`);
    const all = (value: Json) => Object.fromEntries(names.map((name, n) => [name, n % 2 === 0 ? value : { b: value }]));
    const [target, patch] = [all({ a: 1, c: { d: 2 } }), all({ a: null, c: { e: "null" } })];
    expect(JSON.parse(await merged(JSON.stringify(target), JSON.stringify(patch)))).toEqual(mergePatch(target, patch));
  });

  it("reaches as deep as a document may be nested", async () => {
    const nested = (inner: string, levels: number) => `${'{"a":'.repeat(levels)}${inner}${"}".repeat(levels)}`;
    const text = await merged(nested('{"x":1}', 127), nested('{"y":2}', 127));
    expect(text.replaceAll(" ", "")).toBe(nested('{"x":1,"y":2}', 127));
  });
});
