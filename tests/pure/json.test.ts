/** JSON keeps what it says: the scan against JSON.parse, by properties. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readJson, textsWithin } from "../../src/json.ts";
import { longestArray } from "../../src/json-scan.ts";
import { ServiceError } from "../../src/service-error.ts";

/** Any JSON value, its strings fit to be stored, as text with spaces strewn in. */
const storable = fc.string({ unit: "binary", maxLength: 12 }).map((text) => text.toWellFormed().replaceAll("\0", ""));
const value = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc
      .double({ noNaN: true, noDefaultInfinity: true, min: -1e300, max: 1e300 })
      .filter((n) => n === 0 || Math.abs(n) > 1e-300),
    fc.integer(),
    storable,
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(
      fc.oneof(storable, fc.constantFrom("__proto__", "constructor", "toString", "", "a/b", "~")),
      tie("value"),
      {
        maxKeys: 5,
        noNullPrototype: false,
      },
    ),
  ),
})).value;
const object = fc.dictionary(fc.oneof(storable, fc.constantFrom("__proto__", "context", "")), value, {
  maxKeys: 6,
  noNullPrototype: false,
});
const space = fc.constantFrom("", " ", "\n", "\t ", "  ");

/** Escapes some characters of the strings that need not be escaped. */
function escapeMore(text: string): string {
  const escaped = (char: string) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return text.replace(/"(?:[^"\\]|\\.)*"/gs, (literal) =>
    literal.replace(/\\u.{4}|\\.|[a-e\ud800-\udfff]/gs, (part) => (part.startsWith("\\") ? part : escaped(part))),
  );
}

function problem(text: string): ServiceError {
  try {
    readJson(text);
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error(`accepted: ${text}`);
}

describe("reading a body", () => {
  it("gives what JSON.parse gives, and the text of each member", () => {
    fc.assert(
      fc.property(object, fc.constantFrom(undefined, 1, "\t"), fc.boolean(), space, (body, indent, escaped, around) => {
        const plain = JSON.stringify(body, undefined, indent);
        const text = around + (escaped ? escapeMore(plain) : plain) + around;
        const read = readJson(text);
        expect(read.value).toEqual(JSON.parse(text));
        expect([...read.texts.keys()].sort()).toEqual(Object.keys(body).sort());
        for (const [key, member] of read.texts) {
          expect(JSON.parse(member)).toEqual(Object.getOwnPropertyDescriptor(JSON.parse(text), key)?.value);
          expect(text).toContain(member);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("refuses exactly what JSON.parse refuses", () => {
    fc.assert(
      fc.property(
        object,
        fc.nat(),
        fc.nat(),
        fc.constantFrom("", '"', "\\", "{", "}", "[", "]", ",", ":", "e", "1", " ", "\n"),
        (body, at, cut, insert) => {
          const whole = JSON.stringify(body);
          const start = at % (whole.length + 1);
          const text = whole.slice(0, start) + insert + whole.slice(start + (cut % 3));
          let valid = true;
          try {
            JSON.parse(text);
          } catch {
            valid = false;
          }
          if (valid && !/\de[+-]?\d{3}/.test(text)) expect(readJson(text).value).toEqual(JSON.parse(text));
          else if (valid) fc.pre(false);
          else expect(["malformed_json", "nesting_too_deep"]).toContain(problem(text).code);
        },
      ),
      { numRuns: 1_000 },
    );
  });

  it("gives the text of each element of an array, and of what is within it", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(object, value), { maxLength: 8 }),
        fc.constantFrom(undefined, 1),
        space,
        (body, indent, around) => {
          const text = around + escapeMore(JSON.stringify(body, undefined, indent)) + around;
          const { value: read, texts } = readJson(text);
          expect(read).toEqual(JSON.parse(text));
          expect([...texts.keys()]).toEqual(body.map((_, at) => String(at)));
          for (const [at, element] of JSON.parse(text).entries()) {
            const its = texts.get(String(at)) ?? "";
            expect(JSON.parse(its)).toEqual(element);
            if (typeof element !== "object" || element === null) continue;
            const members = [...textsWithin(its)].map(([key, member]) => JSON.stringify([key, JSON.parse(member)]));
            expect(members.sort()).toEqual(
              Object.entries(element)
                .map((entry) => JSON.stringify(entry))
                .sort(),
            );
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it("keeps every digit of a number within an array", () => {
    const { texts } = readJson(' [ {"a":{"n":1.0,"m" : 12345678901234567890 }} , 0.10 ] ');
    expect([...texts.values()]).toEqual(['{"a":{"n":1.0,"m" : 12345678901234567890 }}', "0.10"]);
    const within = textsWithin(textsWithin(texts.get("0") ?? "").get("a") ?? "");
    expect([...within]).toEqual([
      ["n", "1.0"],
      ["m", "12345678901234567890"],
    ]);
  });

  it("cuts one more element out of an array than any call takes, which tells that it is longer, and no more", () => {
    const { value: read, texts } = readJson(`[${"0,".repeat(longestArray + 5)}0]`);
    expect(read).toHaveLength(longestArray + 6);
    expect(texts.size).toBe(longestArray + 1);
  });

  it("lets what is in an element be nested as deep as what is in a body", () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    expect(readJson(`{"a":${nested(128)}}`).texts.size).toBe(1);
    expect(readJson(`[{"a":${nested(128)}}]`).texts.size).toBe(1);
    expect(problem(`{"a":${nested(129)}}`).code).toBe("nesting_too_deep");
    expect(problem(`[{"a":${nested(129)}}]`).code).toBe("nesting_too_deep");
  });

  it("of two members with one key keeps the last, as the database does", () => {
    expect(readJson('{"a":1,"a":2}').texts.get("a")).toBe("2");
    expect(readJson('{"a":1,"\\u0061": [2] }').texts.get("a")).toBe("[2]");
  });

  it("keeps every digit of a number", () => {
    const numbers = [
      "1.0",
      "90071992547409931",
      "0.10",
      "1e2",
      "-0",
      "123456789012345678901234567890.000",
      "1E+3",
      "5e-324",
    ];
    for (const number of numbers) expect(readJson(`{"a":${number}}`).texts.get("a")).toBe(number);
  });

  it("finds what can't be stored wherever it stands, and says where", () => {
    const flaw = fc.constantFrom<[string, string]>(
      ['"\\u0000"', "unstorable_text"],
      ['"x\\ud800"', "unstorable_text"],
      ['"\\udfff\\ud800"', "unstorable_text"],
      ["1e400", "number_out_of_range"],
      [`-${"1".repeat(401)}`, "number_out_of_range"],
      ["0.0e-400", "number_out_of_range"],
    );
    fc.assert(
      fc.property(value, value, flaw, (before, after, [text, code]) => {
        const body = `{"x":${JSON.stringify(before)},"d":{"list":[${JSON.stringify(before)},${text}]},"y":${JSON.stringify(after)}}`;
        const found = problem(body);
        expect(found.code).toBe(code);
        expect(found.members["errors"]).toEqual([expect.objectContaining({ pointer: "/d/list/1" })]);
      }),
      { numRuns: 300 },
    );
  });

  it("does not take an escaped backslash for an escape", () => {
    expect(readJson('{"a":"\\\\u0000"}').value).toEqual({ a: "\\u0000" });
    expect(readJson('{"a":"\\\\\\\\ud800"}').value).toEqual({ a: "\\\\ud800" });
    expect(readJson('{"a":"\\ud83d\\ude00"}').value).toEqual({ a: "😀" });
  });

  it("ends quickly on any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        try {
          readJson(text);
        } catch (error) {
          expect(error).toBeInstanceOf(ServiceError);
        }
      }),
      { numRuns: 1_000 },
    );
    for (const text of [
      '"'.repeat(200_000),
      '\\"'.repeat(200_000),
      '{"a":'.repeat(200_000),
      `["${'\\\\","'.repeat(100_000)}"]`,
    ]) {
      const start = performance.now();
      try {
        readJson(text);
      } catch {
        // Only the time matters here.
      }
      expect(performance.now() - start).toBeLessThan(1_000);
    }
  });
});
