import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { root, tableRows, textOf } from "./sources.ts";

describe.each(["docs/events.md", "docs/state-machine.md"])("%s", (document) => {
  const promises = tableRows(textOf(document), "Promise");

  it("has promises", () => {
    expect(promises.length).toBeGreaterThan(5);
  });

  it.each(promises)("names a test that there is: %s", (_promise, proof = "") => {
    const [, file = "", title = ""] = /^`([^`]+)`: (.+)$/.exec(proof) ?? [];
    expect(existsSync(join(root, file)) && file.endsWith(".test.ts"), proof).toBe(true);
    const titles = [...textOf(file).matchAll(/\b(?:it|describe)\b[^\n]*\(\s*["'`]([^\n]+)/g)].map(([line]) => line);
    const inLoops = [...textOf(file).matchAll(/^\s*["'`]([^\n]+)["'`],$/gm)].map(([line]) => line);
    expect(
      [...titles, ...inLoops].some((one) => one.includes(title)),
      `"${title}" in ${file}`,
    ).toBe(true);
  });
});
