/** The words and keys of what runtimes report, in any spelling. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { reportedWord } from "../../src/events/envelope.ts";
import { readReportedWord, snakeCase, spelledKeys } from "../../src/http/schemas/reported-event.ts";

const words = fc.array(fc.stringMatching(/^[a-z]{2}[a-z0-9]{0,6}$/), { minLength: 1, maxLength: 4 });

const capital = (part: string) => part.slice(0, 1).toUpperCase() + part.slice(1);

describe("the word of a reported event", () => {
  it.each([
    ["thinking", "thinking"],
    ["THINKING", "thinking"],
    ["Thinking", "thinking"],
    ["session.thinking", "thinking"],
    ["SESSION.THINKING", "thinking"],
    ["session.fileChange", "file_change"],
    ["fileChange", "file_change"],
    ["FileChange", "file_change"],
    ["FILE_CHANGE", "file_change"],
    ["file-change", "file_change"],
    ["File_Change", "file_change"],
    ["HTTPError", "http_error"],
    ["step2Done", "step2_done"],
    ["a".repeat(64), "a".repeat(64)],
  ])("%s means %s", (text, word) => {
    expect(readReportedWord(text)).toBe(word);
  });

  it.each([
    "",
    "session.",
    "session.session.thinking",
    "other.thinking",
    " thinking",
    "thinking\n",
    "file change",
    "2fast",
    "_thinking",
    "thin\u212aing",
    "dénken",
    "a".repeat(65),
  ])("%j means none", (text) => {
    expect(readReportedWord(text)).toBeUndefined();
  });

  it("is the same in every spelling of the same words", () => {
    fc.assert(
      fc.property(words, (parts) => {
        const snake = parts.join("_");
        const spellings = [
          snake,
          snake.toUpperCase(),
          parts.join("-"),
          parts.map(capital).join(""),
          parts.map((part, at) => (at === 0 ? part : capital(part))).join(""),
        ];
        for (const spelling of spellings) expect(snakeCase(spelling), spelling).toBe(snake);
      }),
    );
  });

  it("is always one that an event's type can have, and means itself", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[A-Za-z0-9_.-]{1,12}$/)), (text) => {
        const word = readReportedWord(text);
        fc.pre(word !== undefined);
        expect(word).toMatch(reportedWord);
        expect(readReportedWord(`session.${word}`)).toBe(word);
      }),
    );
  });
});

describe("the keys of a payload", () => {
  it("that are known are found in any spelling, and no others", () => {
    const payload = { toolsUsed: [], ITERATION: 1, Iteration: 2, tools: 0, "tools used": 1, constructor: 1 };
    expect(spelledKeys("thinking", payload)).toEqual([
      ["toolsUsed", "tools_used"],
      ["ITERATION", "iteration"],
      ["Iteration", "iteration"],
    ]);
  });

  it("of a word of a runtime's own are none of ours, whatever the word", () => {
    for (const word of ["review", "constructor", "to_string"]) {
      expect(spelledKeys(word, { exitCode: 1, Path: "x" })).toEqual([]);
    }
  });
});
