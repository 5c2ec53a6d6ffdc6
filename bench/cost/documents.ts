/** Contexts of a size: like those that agents have, and those that cost a reader most. */

export type Kind = "messages" | "numbers" | "keys" | "escapes";

/** A document of about so many bytes of JSON text. The number makes it another one than all before. */
export function documentOf(kind: Kind, bytes: number, number: number): string {
  const part = partOf[kind];
  const parts: string[] = [];
  let length = 0;
  for (let at = 0; length < bytes; at++) {
    // Part of what comes is as long as the last one: the last of all is the only one that is too much.
    const text = `"${kind}-${at}":${part(at, bytes - length)}`;
    parts.push(text);
    length += text.length + 1;
  }
  return `{"number":${number},${parts.join(",")}}`;
}

/** No list may have more elements. */
const longest = 1_000;

const partOf: Readonly<Record<Kind, (at: number, bytes: number) => string>> = {
  messages: (at, bytes) => list(20, bytes, (each) => message(at * 20 + each)),
  // Two bytes for each value.
  numbers: (_, bytes) => list(longest, bytes, () => "0"),
  keys: (_, bytes) => `{${elements(longest, bytes, (each) => `"${each.toString(36)}":1`)}}`,
  // As a client sends text that it writes in ASCII: six bytes for each character.
  escapes: (_, bytes) => list(10, bytes, () => `"${"\\u00e9\\u4e2d\\n".repeat(20)}"`),
};

function message(at: number): string {
  return JSON.stringify({
    role: at % 2 === 0 ? "user" : "assistant",
    content: `Step ${at}: "quoted" text, a path C:\\work\\${at}\nand a second line; ${"the quick brown fox ".repeat(12)}…`,
    tokens: 100 + (at % 900),
    cost: at / 1_000,
    tool_calls: [{ name: "read_file", arguments: { path: `/project/src/file-${at}.ts`, lines: [at, at + 40] } }],
    cached: at % 3 === 0,
    parent: null,
  });
}

function list(count: number, bytes: number, element: (at: number) => string): string {
  return `[${elements(count, bytes, element)}]`;
}

function elements(count: number, bytes: number, element: (at: number) => string): string {
  const made: string[] = [];
  let length = 0;
  for (let at = 0; at < count && length < bytes; at++) {
    const text = element(at);
    made.push(text);
    length += text.length + 1;
  }
  return made.join(",");
}
