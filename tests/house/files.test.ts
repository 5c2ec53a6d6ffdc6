import { describe, expect, it } from "vitest";
import { codeOf, repositoryFiles, root, sourceFiles, textOf } from "./sources.ts";

const files = sourceFiles().map((file) => `src/${file}`);
const code = new Map(files.map((file) => [file, codeOf(textOf(file))]));

/** `file:line` of every place that matches. */
function places(pattern: RegExp): string[] {
  return [...code].flatMap(([file, text]) =>
    text.split("\n").flatMap((line, at) => (pattern.test(line) ? [`${file}:${at + 1}`] : [])),
  );
}

const lineLimit = 300;

const forbidden = {
  any: /(?:[:<|&,(]|\bas|\bextends|=)\s*any\b(?!\s*[:(])/,
  nonNull: /[\w)\]]!(?=[.,;)\]}[(]|\s*$|\s+(?:as|satisfies)\b)/,
  enum: /^\s*(?:export\s+)?(?:declare\s+)?(?:const\s+)?(?:enum|namespace)\s+\w/,
  decorator: /^\s*@\w+/,
  reExportAll: /^\s*export\s+(?:type\s+)?\*/,
  emptyName: /^\s*(?:export\s+)?(?:class|function|const|interface|type)\s+\w*(?:Utils?|Helpers?|Manager)\b/,
};

it("what follows sees code, and tells it from comments, strings and templates", () => {
  const blanked = codeOf(
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the sample is code
    'a; // any\n/* any */ b("any", `any ${c as any} ${`${d}`} any`); e = /["\'`]any/.test(f); g / h;',
  );
  expect(blanked).toMatch(/^a;\s+\n\s+b\(\s+,\s+c as any\s+d\s+\); e =\s+\.test\(f\); g \/ h;$/);
  expect(
    ["x: any", "as any", "Map<string, any>", "any[]", "y: any,"].map((line) => forbidden.any.test(`= ${line}`)),
  ).not.toContain(false);
  expect(forbidden.any.test("s.id = any (")).toBe(false);
  expect(["a!.b", "f()!;", "x[0]![1]", "y!", "z! as Z"].map((line) => forbidden.nonNull.test(line))).not.toContain(
    false,
  );
  expect(["!a", "a !== b", "a != b", "(!b)"].map((line) => forbidden.nonNull.test(line))).not.toContain(true);
  expect(forbidden.enum.test("export const enum Phase {")).toBe(true);
  expect(forbidden.emptyName.test("export class SessionManager {")).toBe(true);
});

describe("every source file", () => {
  it(`has at most ${lineLimit} lines`, () => {
    expect(files.length).toBeGreaterThan(25);
    const long = files.map((file) => [file, textOf(file).split("\n").length - 1] as const);
    expect(long.filter(([, lines]) => lines > lineLimit)).toEqual([]);
  });

  it("has no any", () => {
    expect(places(forbidden.any)).toEqual([]);
  });

  it("has no non-null assertion", () => {
    expect(places(forbidden.nonNull)).toEqual([]);
  });

  it("has no enum, no namespace, no decorator", () => {
    expect(places(forbidden.enum)).toEqual([]);
    expect(places(forbidden.decorator)).toEqual([]);
  });

  it("is no barrel: none hands on what others export", () => {
    expect(places(forbidden.reExportAll)).toEqual([]);
    expect(files.filter((file) => /(^|\/)index\.ts$/.test(file))).toEqual([]);
    const handsOn = /^export\s+(?:type\s+)?\{[^}]*\}\s+from\b/m;
    expect([...code].filter(([, text]) => handsOn.test(text)).map(([file]) => file)).toEqual([]);
  });

  it("is called by what it holds, and so is what it exports: no utils, helpers, managers", () => {
    const empty = /(?:^|[^a-z])(?:utils?|helpers?|managers?|common-functions|misc)(?:[^a-z]|$)/i;
    expect(files.filter((file) => empty.test(file))).toEqual([]);
    expect(places(forbidden.emptyName)).toEqual([]);
  });

  it("begins by saying what it is for", () => {
    const silent = files.filter((file) => !file.startsWith("src/embedded/") && !textOf(file).startsWith("/**"));
    expect(silent).toEqual([]);
  });

  it("leaves the environment to config.ts; the embedded PostgreSQL hands some of it on to its processes", () => {
    const readers = places(/\bprocess\.env\b/).map((place) => place.replace(/:\d+$/, ""));
    expect([...new Set(readers)].sort()).toEqual(["src/config.ts", "src/embedded/postgres-process.ts"]);
  });
});

describe("the repository", () => {
  it("names no folder of anybody's machine", () => {
    const folders = ["work", "root", "tmp", "home", "Users"].join("|");
    const absolute = new RegExp(`(?:^|[\\s"'\`(=:])/(?:${folders})/[\\w.-]`);
    const text = repositoryFiles().filter((file) =>
      /\.(ts|cjs|mjs|js|json|md|ya?ml|sql|sh|py|lua|patch)$|^[^.]*$|^\.\w/.test(file),
    );
    expect(text.length).toBeGreaterThan(50);
    const naming = text.flatMap((file) =>
      textOf(file)
        .split("\n")
        .flatMap((line, at) => (absolute.test(line) ? [`${file}:${at + 1}: ${line.trim().slice(0, 100)}`] : [])),
    );
    expect(naming).toEqual([]);
    for (const file of text) expect(textOf(file).includes(root), file).toBe(false);
  });

  it("says under which licence it may be used, the same everywhere", () => {
    const manifest = JSON.parse(textOf("package.json")) as { license: string };
    expect(manifest.license).toBe("MIT");
    expect(textOf("LICENSE")).toMatch(/^MIT License/);
    expect(
      (JSON.parse(textOf("openapi/openapi.json")) as { info: { license: { name: string } } }).info.license.name,
    ).toBe("MIT");
  });

  it("holds no key, no data and no build", () => {
    const unwanted = repositoryFiles().filter((file) =>
      /(^|\/)(node_modules|dist|coverage|\.data|\.env)(\/|$)|\.(pem|key|log)$/.test(file),
    );
    expect(unwanted).toEqual([]);
  });
});
