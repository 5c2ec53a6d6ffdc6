/** The project's own files, as the tests of the house read them. */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of the project. */
export const root = fileURLToPath(new URL("../..", import.meta.url));

/** @param path relative to the project's folder */
export function textOf(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** The TypeScript files of `src`, relative to it: `http/body.ts`. */
export function sourceFiles(): string[] {
  return readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
    .map((path) => path.replaceAll("\\", "/"))
    .filter((path) => path.endsWith(".ts"))
    .sort();
}

/** Every file that is in the repository, or would be after `git add`. */
export function repositoryFiles(): string[] {
  const options = ["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "-z"];
  const listed = execFileSync("git", options, { cwd: root, encoding: "utf8" });
  const deleted = new Set(
    execFileSync("git", ["ls-files", "--deleted", "-z"], { cwd: root, encoding: "utf8" }).split("\0"),
  );
  return listed.split("\0").filter((path) => path !== "" && !deleted.has(path));
}

/** What a file imports, types included: packages by their specifier, files of ours relative to `src`. */
export interface Imports {
  readonly ours: readonly string[];
  readonly packages: readonly string[];
}

const forms = [
  // import x from "…", import type { … } from "…", export { … } from "…", export * from "…"
  /^\s*(?:import|export)\s+(?:type\s+)?(?:[\w$*\s,]|\{[^}]*\})*?\s*from\s*["']([^"']+)["']/gm,
  // import "…"
  /^\s*import\s*["']([^"']+)["']/gm,
  // import("…"), also in types
  /\bimport\s*\(\s*["']([^"']+)["']/g,
];

/** @param path relative to `src` */
export function importsOf(path: string): Imports {
  const text = textOf(`src/${path}`);
  const specifiers = forms.flatMap((form) => [...text.matchAll(form)].map((match) => match[1] ?? ""));
  return {
    ours: specifiers
      .filter((specifier) => specifier.startsWith("."))
      .map((specifier) => posix.join(posix.dirname(path), specifier)),
    packages: specifiers.filter((specifier) => !specifier.startsWith(".") && !specifier.startsWith("node:")),
  };
}

/** A text's code: what stands in comments, strings and regular expressions is blanked, `${…}` in templates is kept. */
export function codeOf(text: string): string {
  let code = "";
  /** For each template that is open: how many braces are open in its `${…}`. */
  const templates: number[] = [];
  const skip = (token: RegExp, from: number): number => {
    token.lastIndex = from;
    const end = token.test(text) ? token.lastIndex : text.length;
    code += text.slice(from, end).replace(/[^\n]/g, " ");
    return end;
  };
  for (let i = 0; i < text.length; ) {
    const char = text[i] ?? "";
    const depth = templates.at(-1);
    if (text.startsWith("//", i)) i = skip(/[^\n]*/y, i);
    else if (text.startsWith("/*", i)) i = skip(/\/\*[\s\S]*?\*\//y, i);
    else if (char === '"' || char === "'") i = skip(/(["'])(?:\\.|(?!\1)[^\\])*\1/y, i);
    else if (char === "/" && /(^|[(,=:[!&|?{};>]|\breturn)\s*$/.test(code))
      i = skip(/\/(?:\\.|\[(?:\\.|[^\]])*\]|[^/\\])+\/\w*/y, i);
    else if (char === "`" || (char === "}" && depth === 0)) {
      if (char === "}") templates.pop();
      i = skip(/[`}](?:\\[\s\S]|\$(?!\{)|[^\\`$])*(?:`|\$\{)/y, i);
      if (text.slice(i - 2, i) === "${") templates.push(0);
    } else {
      if (depth !== undefined && char === "{") templates.push((templates.pop() ?? 0) + 1);
      if (depth !== undefined && char === "}") templates.push((templates.pop() ?? 0) - 1);
      code += char;
      i++;
    }
  }
  return code;
}

/** The rows of a Markdown table, by the header of its first column, cells trimmed and without code quotes. */
export function tableRows(markdown: string, firstHeader: string): string[][] {
  const lines = markdown.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${firstHeader} |`));
  if (start < 0) throw new Error(`there is no table that starts with "${firstHeader}"`);
  const rows: string[][] = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith("|")) break;
    rows.push(
      line
        .replace(/^\|\s*|\s*\|$/g, "")
        .split(/\s*(?<!\\)\|\s*/)
        .map((cell) => cell.replaceAll("\\|", "|")),
    );
  }
  return rows;
}
