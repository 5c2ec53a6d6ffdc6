import { describe, expect, it } from "vitest";
import { withStateMachine } from "../../src/sessions/state-diagram.ts";
import { timers } from "../../src/sessions/timers.ts";
import { designTransitions, designVerbs } from "../support/lifecycle-model.ts";
import { tableRows, textOf } from "./sources.ts";

const document = textOf("docs/state-machine.md");

/** `x, y` of a label, or all but those that it leaves out, or all when it says nothing. */
function named(all: readonly string[], text: string | undefined): readonly string[] {
  if (text === undefined || text === "") return all;
  const left = /^all but (.+)$/.exec(text)?.[1];
  return left === undefined ? text.split(", ") : all.filter((phase) => phase !== left);
}

/** What the diagrams draw, read back: `from → to` for each arrow, those left out that only a verb goes. */
function drawnArrows(): string[] {
  const drawn: string[] = [];
  for (const [, diagram = ""] of document.matchAll(/```mermaid\nstateDiagram-v2\n([\s\S]*?)```/g)) {
    const groups = new Map<string, string[]>();
    for (const [, members = "", id = ""] of diagram.matchAll(/state "(.+)" as (\w+)/g)) {
      groups.set(id, members.split(", "));
    }
    for (const [, from = "", to = "", label = ""] of diagram.matchAll(/^ {2}(\w+) --> (\w+)(?:: (.+))?$/gm)) {
      if (/restart|recover/.test(label)) continue;
      const [, targets, sources] =
        /^((?:(?!\bfrom\b).)*?) ?(?:from (.+))?$/.exec(label.replace("each to each", "")) ?? [];
      for (const source of named(groups.get(from) ?? [from], sources)) {
        for (const target of named(groups.get(to) ?? [to], targets)) {
          if (source !== target) drawn.push(`${source} → ${target}`);
        }
      }
    }
  }
  return drawn;
}

/** The words in code quotes of a cell. */
const wordsOf = (cell = "") => [...cell.matchAll(/`([a-z_]+)`/g)].map(([, word]) => word);

describe("docs/state-machine.md", () => {
  it("is generated from the tables as they are", () => {
    expect(document, "npm run docs:state-machine").toBe(withStateMachine(document));
  });

  it("draws every arrow of the design, each once, and no other", () => {
    const arrows = [...designTransitions].flatMap(([from, targets]) => targets.map((to) => `${from} → ${to}`));
    expect(drawnArrows().sort()).toEqual(arrows.sort());
  });

  it("draws the verbs that go further", () => {
    expect(document).toContain("completed --> pending: restart\n");
    expect(document).toContain("out_of_time --> pending: recover by force\n");
  });

  it("has the design's verbs: where each lands, from where, and where it changes nothing", () => {
    const rows = new Map(tableRows(document, "Verb").map(([verb, ...cells]) => [verb, cells]));
    for (const [verb, { means, entry, ...asked }] of Object.entries(designVerbs)) {
      if (verb === "request-exit") continue;
      const [lands, from, stays] = rows.get(`\`${verb}\``) ?? [];
      const leave =
        "from" in asked ? asked.from : [...designTransitions].flatMap(([one, to]) => (to.includes(entry) ? [one] : []));
      const left = leave.filter((phase) => !(means as readonly string[]).includes(phase));
      expect(wordsOf(lands), verb).toContain(entry);
      expect(wordsOf(from).sort(), verb).toEqual([...left].sort());
      expect(wordsOf(stays).sort(), verb).toEqual([...means].sort());
    }
  });

  it("lists the timers in their order, with what comes of each, and why", () => {
    const listed = tableRows(document, "Timer").map(([name, , outcome, reason]) => [name, outcome, reason]);
    const known = timers("now()").map(({ name, outcome, reason }) => [name, outcome, reason]);
    expect(listed).toEqual(known.map((cells) => cells.map((word) => `\`${word}\``)));
  });

  it("must say where its generated part is", () => {
    expect(() => withStateMachine("# Something else\n")).toThrow("generated part");
  });
});
