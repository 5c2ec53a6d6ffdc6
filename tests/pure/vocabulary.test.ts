/** Clients' words: every field takes every word, in any spelling, and reads it as the design says. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { phases } from "../../src/sessions/lifecycle.ts";
import { knownWords, readWord, vocabularies } from "../../src/sessions/vocabulary.ts";
import { allDesignWords, designFields, designRows, designVocabularies, designWords } from "../support/phases.ts";

/** A word in random case, with random space around it. */
function spellings(word: string): fc.Arbitrary<string> {
  const letters = [...word].map((letter) => fc.constantFrom(letter.toLowerCase(), letter.toUpperCase()));
  const space = fc.stringMatching(/^[ \t\n]{0,3}$/);
  return fc
    .tuple(space, fc.tuple(...letters), space)
    .map(([before, spelled, after]) => before + spelled.join("") + after);
}

const crashPhases = ["failed", "crashed", "expired", "timed_out"];

const fieldAndWord = fc.tuple(fc.constantFrom(...designFields), fc.constantFrom(...allDesignWords));

describe("a vocabulary", () => {
  it("has the design's word for each phase", () => {
    expect(Object.keys(vocabularies)).toEqual([...designVocabularies]);
    expect(designRows.map(({ phase }) => phase)).toEqual([...phases]);
    for (const vocabulary of designVocabularies) {
      const words = designRows.map((row) => [row.phase, row[vocabulary]]);
      expect(vocabularies[vocabulary]).toEqual(Object.fromEntries(words));
    }
  });
});

describe("a word", () => {
  it.each(designFields)(
    "of the field %s means what the design says, and is spelled as its vocabulary spells it",
    (field) => {
      const words = designWords(field);
      for (const word of words) expect(readWord(field, word.word)).toEqual(word);
      expect(knownWords(field)).toHaveLength(words.length);
      expect(new Set(knownWords(field))).toEqual(new Set(words.map(({ word }) => word)));
    },
  );

  it("in two vocabularies is the field's own", () => {
    expect(readWord("status", "crashed")).toMatchObject({ means: crashPhases, entry: "crashed" });
    expect(readWord("phase", "crashed")).toMatchObject({ means: ["crashed"], entry: "crashed" });
    expect(readWord("status", "failed")).toMatchObject({ means: ["failed"], entry: "failed" });
    expect(readWord("state", "ready")).toEqual({
      word: "READY",
      means: ["running", "ready", "stopping"],
      entry: "ready",
    });
    expect(readWord("phase", "READY")).toEqual({ word: "ready", means: ["ready"], entry: "ready" });
    expect(readWord("phase", "Paused")?.means).toEqual(["paused"]);
    expect(readWord("state", "Paused")?.means).toEqual(["paused", "idle", "stopped"]);
  });

  it("is taken by the fields that are not its own too", () => {
    expect(readWord("phase", "active")).toMatchObject({ word: "active", entry: "running" });
    expect(readWord("status", "init")).toEqual({ word: "INIT", means: ["pending", "starting"], entry: "pending" });
    expect(readWord("status", "error")).toEqual({ word: "ERROR", means: crashPhases, entry: "failed" });
    expect(readWord("state", "timeout")).toEqual({ word: "Timeout", means: ["timed_out"], entry: "timed_out" });
    expect(readWord("status", "Creating")).toEqual({ word: "Creating", means: ["starting"], entry: "starting" });
  });

  it("reads the same in any case, and with any space around it", () => {
    const spelled = fieldAndWord.chain(([field, word]) =>
      fc.tuple(fc.constant(field), fc.constant(word), spellings(word)),
    );
    fc.assert(
      fc.property(spelled, ([field, word, text]) => {
        expect(readWord(field, text)).toBeDefined();
        expect(readWord(field, text)).toBe(readWord(field, word));
      }),
    );
  });

  it("leads into one of the phases that it means", () => {
    fc.assert(
      fc.property(fieldAndWord, ([field, text]) => {
        const word = readWord(field, text);
        expect(word?.means).toContain(word?.entry);
      }),
    );
  });

  it("that an answer gives for a phase means that phase, where the vocabulary has its own field", () => {
    for (const row of designRows) {
      expect(readWord("status", row.status)?.means).toContain(row.phase);
      expect(readWord("phase", row.phase)?.means).toEqual([row.phase]);
      expect(readWord("state", vocabularies.container[row.phase])?.means).toContain(row.phase);
    }
  });

  it("that no vocabulary has means nothing", () => {
    const known = new Set(allDesignWords.map((word) => word.toLowerCase()));
    const others = fc.oneof(
      fc.string(),
      fc.constantFrom(
        "",
        " ",
        "done",
        "__proto__",
        "constructor",
        "toString",
        "hasOwnProperty",
        "run ning",
        "activе",
        "idle\0",
      ),
      fc.constantFrom(...allDesignWords).map((word) => `${word}s`),
    );
    fc.assert(
      fc.property(fc.constantFrom(...designFields), others, (field, text) => {
        fc.pre(!known.has(text.trim().toLowerCase()));
        expect(readWord(field, text)).toBeUndefined();
      }),
    );
  });
});
