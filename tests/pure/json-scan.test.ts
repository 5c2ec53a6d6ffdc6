/** What is not parsed is refused all the same when it is not JSON: the scan says of every text what JSON.parse says. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readJson } from "../../src/json.ts";
import { Scan } from "../../src/json-scan.ts";
import { ServiceError } from "../../src/service-error.ts";

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Expects that the scan says of the text what JSON.parse says. Of the texts that pass there are too many to weigh each. */
function expectAlike(text: string): void {
  if (new Scan(text).run().isJson() !== isJson(text)) expect.fail(`JSON: ${isJson(text)}, of ${JSON.stringify(text)}`);
}

/** Pieces of JSON, and of what is nearly JSON. */
const pieces = fc.constantFrom(
  ...[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"',
    '""',
    '"a"',
    '"\\',
    "\\",
    "\\u",
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
    '"\\x"',
    "\\n",
  ],
  ...["0", "-", "1", "01", "-0", "1.5", "1.", ".5", "1e5", "1E+05", "1e", "1e+", "--1", "+1", "1-2", "0x1", "00"],
  ...["true", "false", "null", "tru", "nul", "True", "NaN", "undefined"],
  ...[" ", "\n", "\t", "\r", "\u0000", "\u0001", "\u000b", "\u001f", "\u00a0", "\ufeff", "\u2028", "é", "😀", "\ud800"],
);

describe("the scan of a text", () => {
  it("says what JSON.parse says of any pieces of JSON", () => {
    const text = fc.array(pieces, { maxLength: 8 }).map((all) => all.join(""));
    fc.assert(
      fc.property(text, fc.constantFrom("", "[", '{"a":'), (middle, open) => {
        const close = open === "" ? "" : open === "[" ? "]" : "}";
        const whole = open + middle + close;
        expectAlike(whole);
      }),
      { numRuns: 20_000 },
    );
  });

  it("says what JSON.parse says of JSON in which something was changed", () => {
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 4 }),
        fc.constantFrom(undefined, 1),
        fc.nat(),
        fc.nat(3),
        pieces,
        (json, indent, at, cut, piece) => {
          const whole = JSON.stringify(JSON.parse(json), undefined, indent);
          expect(new Scan(whole).run().isJson(), whole).toBe(true);
          const start = at % (whole.length + 1);
          const text = whole.slice(0, start) + piece + whole.slice(start + cut);
          expectAlike(text);
        },
      ),
      { numRuns: 10_000 },
    );
  });

  it("says what JSON.parse says of lists of numbers, long ones too, with anything between them", () => {
    const number = fc.oneof(
      fc.integer().map(String),
      fc.double().map((n) => JSON.stringify(n)),
      pieces,
    );
    const run = fc.tuple(fc.constantFrom("0", "-1.5", "12"), fc.constantFrom(",", ", "), fc.nat(130));
    const plain = run.map(([one, comma, count]) => Array.from({ length: count }, () => one).join(comma));
    fc.assert(
      fc.property(plain, fc.array(number, { maxLength: 4 }), plain, fc.constantFrom(",", ", ", ",,"), (...parts) => {
        const [before, between, after, comma] = parts;
        const list = [before, ...between, after].filter((part) => part !== "").join(comma);
        for (const text of [`{"a":[${list}]}`, `{"a":{${list}}}`, `[${list}]`, `[[${list},]]`]) {
          expectAlike(text);
        }
      }),
      { numRuns: 5_000 },
    );
  });

  it("takes time that grows with the text, wherever escapes, quotes and line breaks stand in it", () => {
    const megabytes = (part: string) => part.repeat(4_000_000 / part.length);
    const parts = ["\\n".padEnd(20, "x"), '\\"'.padEnd(20, "x"), "\\\\", '","', '",\n"', '\\",\n"'];
    for (const part of parts) {
      const text = `["${megabytes(part)}"]`;
      const began = performance.now();
      expect(new Scan(text).run().isJson(), part).toBe(isJson(text));
      // A tenth of a second on an idle machine; one that looks back at each escape would take hours.
      expect(performance.now() - began, part).toBeLessThan(10_000);
    }
  });

  it("says what JSON.parse says of strings with any escapes and control characters, near and far from each other", () => {
    const part = fc.oneof(pieces, fc.string({ unit: "binary", maxLength: 40 }));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const text = `["${parts.join('","')}","${parts.join("")}"]`;
        expectAlike(text);
      }),
      { numRuns: 10_000 },
    );
  });
});

/** So much text that a document is worth leaving out. */
const long = "lorem ipsum ".repeat(200);
const freeForm = new Set(["d", "e"]);

function refusal(text: string, keys?: ReadonlySet<string>): ServiceError | undefined {
  try {
    readJson(text, keys);
    return undefined;
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
}

describe("reading a body with free-form members", () => {
  it("empties the large objects among them, and gives their texts all the same", () => {
    const large = `{ "n" : 1.0, "long":"${long}" }`;
    const { value, texts } = readJson(`{"a":1,"d": ${large} ,"b":[2],"e":{"n":1},"c":${large}}`, freeForm);
    expect(value).toEqual({ a: 1, d: {}, b: [2], e: { n: 1 }, c: { n: 1, long } });
    expect(texts.get("d")).toBe(large);
    expect(texts.get("c")).toBe(large);
  });

  it("leaves what is no object as it is", () => {
    const list = `["${long}"]`;
    expect(readJson(`{"d":${list},"e":"${long}"}`, freeForm).value).toEqual({ d: [long], e: long });
  });

  it("of two members with one key reads the last", () => {
    const large = `{"long":"${long}"}`;
    expect(readJson(`{"d":${large},"d":3}`, freeForm).value).toEqual({ d: 3 });
    expect(readJson(`{"d":3,"\\u0064":${large}}`, freeForm).value).toEqual({ d: {} });
  });

  it("is not misled by a key that is __proto__", () => {
    const { value } = readJson(`{"d":{"long":"${long}","__proto__":1},"__proto__":{"x":1}}`, freeForm);
    expect(Object.keys(value as object)).toEqual(["d", "__proto__"]);
  });

  it("refuses in them what is refused elsewhere, in the same words", () => {
    const flawed = fc.constantFrom(
      "1e400",
      '"\\u0000"',
      '"\\ud800"',
      "tru",
      "01",
      '"\t"',
      '{"a" 1}',
      "[1,]",
      "}",
      '"',
      "",
    );
    fc.assert(
      fc.property(fc.json({ maxDepth: 3 }), flawed, (json, flaw) => {
        const text = `{"a":2,"d":{"before":${JSON.stringify(JSON.parse(json))},"long":"${long}","x":[1,${flaw}],"y":0},"e":{}}`;
        const found = refusal(text, freeForm);
        expect(found).toBeInstanceOf(ServiceError);
        expect(found).toEqual(refusal(text));
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("reading a body with a list of bodies", () => {
  const read = (text: string) => readJson(text, undefined, "list");

  it("empties the list, of two the last counts, and gives its text all the same", () => {
    const { value, texts } = read('{"list": [{"n":1.0}, {}] ,"a":[1],"b":{"list":[2]}}');
    expect(value).toEqual({ list: [], a: [1], b: { list: [2] } });
    expect(texts.get("list")).toBe('[{"n":1.0}, {}]');
    expect(read('{"list":[1],"list":{"a":2}}').value).toEqual({ list: { a: 2 } });
    expect(read('{"list":[1],"l\\u0069st":[2]}').texts.get("list")).toBe("[2]");
  });

  it("leaves what is no list as it is", () => {
    for (const text of ['{"list":{"a":[1]}}', '{"list":"[]"}', '[{"list":[1]}]', "null"]) {
      expect(read(text).value).toEqual(JSON.parse(text));
    }
  });

  it("leaves it to who reads the bodies what is wrong with one, but not what is wrong elsewhere", () => {
    for (const flawed of ['"\\u0000"', '"\\ud800"', "1e400"]) {
      expect(read(`{"list":[${flawed}]}`).value).toEqual({ list: [] });
      expect(() => read(`{"list":[1],"other":[${flawed}]}`)).toThrow("/other/0");
      expect(() => read(`{"list":{"a":${flawed}}}`)).toThrow("/list/a");
    }
  });

  it("counts the digits of all of them", () => {
    expect(read(`{"list":[${"1e399,".repeat(2_499)}1e399]}`).value).toEqual({ list: [] });
    expect(() => read(`{"list":[${"1e399,".repeat(2_500)}1e399]}`)).toThrow("/list/2500");
  });

  it("takes what is JSON, and nothing else", () => {
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 8 }), (parts) => {
        const text = `{"list":[${parts.join("")}]}`;
        let taken = true;
        try {
          read(text);
        } catch {
          taken = false;
        }
        expect(taken, text).toBe(isJson(text));
      }),
      { numRuns: 2_000 },
    );
  });
});
