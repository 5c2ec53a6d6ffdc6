/** The state machine as people read it, in Markdown, made from the tables that the service itself goes by. Pure. */

import { actions, type Target } from "./actions.ts";
import {
  endedPhases,
  initialPhases,
  type Phase,
  phaseMeaning,
  phases,
  phasesThatMayEnter,
  statusOf,
  transitions,
} from "./lifecycle.ts";
import { vocabularies } from "./vocabulary.ts";

/** Phases that are drawn as one, because they lead to the same, or nearly. */
interface Node {
  readonly id: string;
  readonly members: readonly Phase[];
}

function node(id: string, ...members: readonly Phase[]): Node {
  return { id, members };
}

const pending = node("pending", "pending");
const setAside = node("set_aside", "paused", "idle", "stopped");

/** From the first claim to the end, or to a pause. */
const lifeNodes: readonly Node[] = [
  pending,
  node("starting", "starting"),
  node("at_work", "running", "ready", "busy", "waiting_input"),
  node("stopping", "stopping"),
  setAside,
];

const live = node("live", "starting", "running", "ready", "busy", "waiting_input", "stopping");

/** How it ends, and begins again. */
const endNodes: readonly Node[] = [
  pending,
  live,
  setAside,
  node("completed", "completed"),
  node("broken", "failed", "crashed"),
  node("out_of_time", "expired", "timed_out"),
];

const isOver = (phase: Phase) => (endedPhases as readonly Phase[]).includes(phase);

/** An arrow of the table, or one of a verb that goes further than the table does. */
interface Arrow {
  readonly from: Phase;
  readonly to: Phase;
  readonly verb?: string;
}

/** The verbs by which the phases are left that the table leaves to them. */
const onlyByVerb: readonly (readonly [string, Target])[] = [
  ["recover by force", actions.recoverByForce],
  ["restart", actions.restart],
];

const arrows: readonly Arrow[] = [
  ...phases.flatMap((from) => transitions[from].map((to) => ({ from, to }))),
  ...onlyByVerb.flatMap(([verb, target]) =>
    phases
      .filter((from) => target.allowed?.includes(from) === true && !transitions[from].includes(target.entry))
      .map((from) => ({ from, to: target.entry, verb })),
  ),
];

/** How an arrow's ends are told: nothing when they are all, those that are left out when these are fewer. */
function ends(all: readonly Phase[], some: readonly Phase[]): string {
  const others = all.filter((phase) => !some.includes(phase));
  if (others.length === 0) return "";
  return others.length < some.length && others.length === 1 ? `all but ${others.join(", ")}` : some.join(", ");
}

/** The lines from a node to another: one for each set of sources that leads to the same. */
function linesBetween(from: Node, to: Node, drawn: readonly Arrow[]): string[] {
  if (from === to)
    return drawn.some((arrow) => isWithin(from, arrow)) ? [`  ${from.id} --> ${to.id}: each to each`] : [];
  const targetsOf = new Map<string, Phase[]>();
  for (const target of to.members) {
    const its = drawn.filter((arrow) => arrow.to === target && from.members.includes(arrow.from));
    if (its.length === 0) continue;
    const sources = ends(
      from.members,
      its.map((arrow) => arrow.from),
    );
    const told = [sources && `from ${sources}`, its[0]?.verb ?? ""].filter((part) => part !== "").join(" ");
    targetsOf.set(told, [...(targetsOf.get(told) ?? []), target]);
  }
  return [...targetsOf].map(([told, targets]) => line(from.id, to.id, `${ends(to.members, targets)} ${told}`));
}

function line(from: string, to: string, label = ""): string {
  return `  ${from} --> ${to}${label.trim() === "" ? "" : `: ${label.trim()}`}`;
}

const isWithin = ({ members }: Node, { from, to }: Arrow) => members.includes(from) && members.includes(to);

/**
 * @param edges where it begins, or ends
 * @throws when what is drawn as one node is not of one kind
 */
function diagram(nodes: readonly Node[], drawn: readonly Arrow[], edges: readonly string[]): string {
  for (const each of nodes) {
    const { length } = each.members;
    const within = drawn.filter((arrow) => isWithin(each, arrow)).length;
    if (within !== 0 && within !== length * (length - 1)) throw new Error(`${each.id} is not of one kind`);
  }
  const states = nodes
    .filter(({ members }) => members.length > 1)
    .map(({ id, members }) => `  state "${members.join(", ")}" as ${id}`);
  const lines = nodes.flatMap((from) => nodes.flatMap((to) => linesBetween(from, to, drawn)));
  return ["```mermaid", "stateDiagram-v2", ...states, ...edges, ...lines, "```"].join("\n");
}

/** Where a client may let a session begin. */
const beginnings = lifeNodes.flatMap(({ id, members }) => {
  const first = members.filter((phase) => (initialPhases as readonly Phase[]).includes(phase));
  return first.length === 0 ? [] : [line("[*]", id, ends(members, first))];
});

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [row(header), `|${header.map(() => "---|").join("")}`, ...rows.map(row)].join("\n");
}

const code = (word: string) => `\`${word}\``;
const codes = (words: readonly string[]) => (words.length === 0 ? "nothing" : words.map(code).join(", "));

const phaseTable = table(
  ["Phase", "Status", "Meaning", ...Object.keys(vocabularies)],
  phases.map((phase) => [
    code(phase),
    code(statusOf[phase]),
    phaseMeaning[phase],
    ...Object.values(vocabularies).map((words) => code(words[phase])),
  ]),
);

const transitionTable = table(
  ["From", "To"],
  phases.map((phase) => {
    const verbs = arrows.filter(({ from, verb }) => from === phase && verb !== undefined);
    const byVerb = verbs.map(({ to, verb }) => `${code(to)} (only: ${verb})`);
    return [code(phase), byVerb.length > 0 ? byVerb.join(", ") : codes(transitions[phase])];
  }),
);

/** What a person writes for each target. */
const verbs: Readonly<Record<keyof typeof actions, string>> = {
  start: "`start`",
  starting: '`start` with `{"phase": "starting"}`',
  pause: "`pause`",
  resume: "`resume`",
  stop: "`stop`",
  complete: "`complete`",
  fail: "`fail`",
  crash: "`crash`",
  recover: "`recover`",
  recoverByForce: '`recover` with `{"force": true}`',
  restart: "`restart`",
  requestExit: "`request-exit`",
};

const verbTable = table(
  ["Verb", "Makes it", "From", "Changes nothing in"],
  Object.entries<Target>(actions).map(([name, { entry, entryUnlessHeld, allowed, means }]) => {
    const verb = verbs[name as keyof typeof actions];
    if (name === "requestExit") return [verb, "`exit_requested`, in the phase that it has", codes(means), "nothing"];
    const lands = entryUnlessHeld === undefined ? code(entry) : `${code(entry)} if held, else ${code(entryUnlessHeld)}`;
    const from = (allowed ?? phasesThatMayEnter(entryUnlessHeld ?? entry)).filter((phase) => !means.includes(phase));
    return [verb, lands, codes(from), codes(means)];
  }),
);

const generated = `## Phases

${phaseTable}

## Transitions

Its life:

${diagram(
  lifeNodes,
  arrows.filter(({ from, to }) => !isOver(from) && !isOver(to)),
  beginnings,
)}

Its end, and another beginning:

${diagram(
  endNodes,
  arrows.filter(({ from, to }) => isOver(from) || isOver(to)),
  [line("completed", "[*]")],
)}

The same as a table. What is not here is refused.

${transitionTable}

## Verbs

${verbTable}
`;

const begin = "<!-- generated from src/sessions/lifecycle.ts and actions.ts: npm run docs:state-machine -->";
const end = "<!-- end of what is generated -->";

/**
 * The document with its generated part as the tables have it now.
 *
 * @param document has two lines that say where that part begins and ends
 * @throws when it has not
 */
export function withStateMachine(document: string): string {
  const [before, rest, ...others] = document.split(`${begin}\n`);
  const [, after, ...more] = rest?.split(`${end}\n`) ?? [];
  if (before === undefined || after === undefined || others.length + more.length > 0) {
    throw new Error("the document does not say where its generated part begins and ends");
  }
  return `${before}${begin}\n\n${generated}\n${end}\n${after}`;
}
