/** RFC 6902 as the database does it, against the public json-patch-tests, further cases, and a naive model. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import specCases from "json-patch-test-suite/spec_tests.json" with { type: "json" };
import suiteCases from "json-patch-test-suite/tests.json" with { type: "json" };
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { jsonPatchText } from "../../src/http/json-patch.ts";
import { readJson } from "../../src/json.ts";
import { ServiceError } from "../../src/service-error.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Json, jsonPatch, type Operation } from "../support/json-model.ts";

interface Case {
  readonly comment?: string;
  readonly doc: Json;
  readonly patch?: Json;
  /** Where it is no value that JSON.stringify could give. */
  readonly patchText?: string;
  /** Left out where nothing changes. */
  readonly expected?: Json;
  readonly error?: string;
  /** By the suite: implementations may differ. */
  readonly disabled?: boolean;
}
const cases: Case[] = [
  ...(specCases as Case[]),
  ...(suiteCases as Case[]),
  ...JSON.parse(readFileSync("tests/data/json-patch-cases.json", "utf8")),
].filter(({ disabled }) => !disabled);

type Patched = {
  readonly text: string | null;
  readonly failure: { readonly index: number; readonly why?: string } | null;
};

describe("json_patch", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  /** As a request would do it; undefined when it is refused before the database is asked. */
  const patched = async (document: string, patch: string): Promise<Patched | undefined> => {
    const { value, texts } = readJson(patch);
    let operations: string;
    try {
      operations = jsonPatchText(value, texts);
    } catch (error) {
      if (error instanceof ServiceError) return undefined;
      throw error;
    }
    const [row] = await database.sql<Patched[]>`
      select p.patched::text as text, p.failure
      from json_patch(${document}::text::jsonb, ${operations}::text::jsonb) p`;
    return row;
  };

  it.each(cases.map((one) => ({ ...one, title: one.comment ?? JSON.stringify(one.patch) })))(
    "$title",
    async ({ doc, patch, patchText, expected = doc, error }) => {
      const found = await patched(JSON.stringify(doc), patchText ?? JSON.stringify(patch));
      if (error !== undefined) expect(found?.failure ?? "refused").not.toBeNull();
      else {
        expect(found?.failure).toBeNull();
        expect(JSON.parse(found?.text ?? "")).toEqual(expected);
      }
    },
  );

  const name = fc.constantFrom("a", "b", "~", "a/b", "", "0");
  const value = fc.letrec<{ value: Json }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.constant(null),
      fc.boolean(),
      fc.integer({ min: 0, max: 9 }),
      fc.array(tie("value"), { maxLength: 3 }),
      fc.dictionary(name, tie("value"), { maxKeys: 3, noNullPrototype: true }),
    ),
  })).value;
  const document = fc.oneof(
    { arbitrary: fc.dictionary(name, value, { minKeys: 2, noNullPrototype: true }), weight: 4 },
    value,
  );
  const step = fc.constantFrom("a", "b", "~0", "a~1b", "", "0", "1", "2", "-", "01", "-1");
  const pointer = fc.array(step, { minLength: 1, maxLength: 2 }).map((steps) => steps.map((one) => `/${one}`).join(""));
  const operation: fc.Arbitrary<Operation> = fc.oneof(
    fc.record({ op: fc.constantFrom("add", "replace", "test"), path: pointer, value }),
    fc.record({ op: fc.constant("remove"), path: pointer.filter((path) => path !== "") }),
    fc.record({ op: fc.constantFrom("move", "copy"), path: pointer, from: pointer }),
  );

  it("does what the RFC says, whatever the document and the operations", async () => {
    let applied = 0;
    await fc.assert(
      fc.asyncProperty(document, fc.array(operation, { minLength: 1, maxLength: 3 }), async (before, operations) => {
        const found = await patched(JSON.stringify(before), JSON.stringify(operations));
        const expected = jsonPatch(before, operations);
        if (expected === undefined) expect(found?.failure).not.toBeNull();
        else {
          expect(found?.failure).toBeNull();
          expect(JSON.parse(found?.text ?? "")).toEqual(JSON.parse(JSON.stringify(expected)));
          applied++;
        }
      }),
      { numRuns: 1_500 },
    );
    expect(applied).toBeGreaterThan(100);
  });

  it("changes no digit of what it does not name, nor of what it moves, copies or writes", async () => {
    const found = await patched(
      '{"a": 1.0, "b": 12345678901234567890123, "c": [0.10]}',
      '[{"op":"copy","from":"/a","path":"/d"},{"op":"move","from":"/c/0","path":"/e"},{"op":"add","path":"/c/-","value":7.00}]',
    );
    expect(found?.text).toBe('{"a": 1.0, "b": 12345678901234567890123, "c": [7.00], "d": 1.0, "e": 0.10}');
  });

  it("says which operation it could not apply, and why", async () => {
    const why = async (...operations: Operation[]) =>
      (await patched('{"a":{"b":[1]},"n":5}', JSON.stringify([{ op: "test", path: "/n", value: 5 }, ...operations])))
        ?.failure;
    expect(await why({ op: "remove", path: "/x" })).toMatchObject({ index: 1, why: "missing" });
    expect(await why({ op: "copy", from: "/x", path: "/y" })).toMatchObject({ index: 1, why: "missing_from" });
    expect(await why({ op: "move", from: "/a", path: "/a/c" })).toMatchObject({ index: 1, why: "into_itself" });
    expect(await why({ op: "add", path: "/a/b/7", value: 1 })).toMatchObject({ index: 1, why: "bad_index" });
    expect(await why({ op: "add", path: "/n/m", value: 1 })).toMatchObject({ index: 1, why: "no_parent" });
  });

  it("refuses copies that would make the document grow without bounds, in size or in depth", async () => {
    const doubling = Array.from({ length: 100 }, (_, n) => ({ op: "copy", from: "", path: `/d${n}` }));
    expect((await patched('{"a":"xxxxxxxxxxxxxxxx"}', JSON.stringify(doubling)))?.failure?.why).toMatch(
      /^too_(large|deep)$/,
    );
    const wide = Array.from({ length: 100 }, () => ({ op: "copy", from: "/a", path: "/a/-" }));
    expect((await patched('{"a":["xxxxxxxxxxxxxxxx"]}', JSON.stringify(wide)))?.failure?.why).toMatch(
      /^too_(large|deep)$/,
    );
    const deep = `${'{"a":'.repeat(100)}1${"}".repeat(100)}`;
    const down = [{ op: "copy", from: "/a", path: `${"/a".repeat(60)}/c` }];
    expect((await patched(deep, JSON.stringify(down)))?.failure?.why).toBe("too_deep");
  });

  it("refuses more operations than can be done in time on a large document", async () => {
    const large = JSON.stringify({ text: "x".repeat(1_000_000), n: 0 });
    const many = (count: number) => JSON.stringify(Array(count).fill({ op: "replace", path: "/n", value: 1 }));
    expect((await patched(large, many(1_000)))?.failure).toMatchObject({ index: 134, why: "too_many" });
    expect((await patched(large, many(50)))?.failure).toBeNull();
    expect((await patched('{"n":0}', many(1_000)))?.failure).toBeNull();
  });
});
