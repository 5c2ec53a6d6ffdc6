/**
 * What large contexts cost: `npm run bench:bodies -- [messages numbers keys escapes] [--rounds=5]`.
 *
 * One request at a time: how long it takes, and for how long at a stretch it keeps the service from everything else. The
 * latter is measured in the service, by a probe that looks at the clock in each turn of the event loop, and at the
 * processor time used: while the machine gives its processors to others, the service does not block anybody.
 */

import { Agent, request } from "undici";
import { documentOf, type Kind } from "./cost/documents.ts";
import { inspectable, openInspector } from "./cost/inspector.ts";
import { option, words } from "./cost/options.ts";
import { startProbe } from "./cost/turns.ts";
import { openStage } from "./events/stage.ts";
import { median } from "./figures.ts";
import { line, title, verdict } from "./lifecycle/print.ts";

const kilobytes = [1, 10, 100, 1_000, 5_000];
const kinds = words<Kind>(["messages", "numbers", "keys", "escapes"]);
const rounds = option("rounds", 5);

/** Milliseconds for which a request may block the event loop: some for each MB, beside what any request takes. */
const allowed = { perMb: 15, base: 5 };
/** How much more a MB of 5 may take than one of 1. */
const linear = 1.5;

interface Measured {
  readonly ms: number;
  readonly blockedMs: number;
}

const operations = ["create", "patch", "get"] as const;
type Operation = (typeof operations)[number];

type Ask = (operation: Operation, text: string) => Promise<Measured>;

function asker(url: string, longestTurn: () => Promise<number>, dispatcher: Agent): Ask {
  let id = "";
  const paths = { create: "/sessions/", patch: () => `/sessions/${id}`, get: () => `/sessions/${id}` };
  return async (operation, text) => {
    const isCreate = operation === "create";
    const path = isCreate ? paths.create : paths[operation]();
    const method = isCreate ? "POST" : operation === "patch" ? "PATCH" : "GET";
    const agent = isCreate ? '"agent_id":"550e8400-e29b-41d4-a716-446655440000",' : "";
    const body = operation === "get" ? {} : { body: Buffer.from(`{${agent}"context":${text}}`) };
    await longestTurn();
    const began = performance.now();
    const answer = await request(`${url}${path}`, { method, dispatcher, ...body });
    const bytes = await answer.body.arrayBuffer();
    const ms = performance.now() - began;
    const blockedMs = await longestTurn();
    if (answer.statusCode >= 300) {
      const { code } = JSON.parse(Buffer.from(bytes).toString()) as { code?: string };
      console.log(`${method} of ${text.length} bytes answered ${answer.statusCode} ${code}`);
      return { ms: Number.NaN, blockedMs };
    }
    if (isCreate) id = String(answer.headers["location"]).split("/").at(-1) ?? "";
    return { ms, blockedMs };
  };
}

/** By operation, once a round. */
async function measure(ask: Ask, kind: Kind, bytes: number): Promise<Map<Operation, Measured[]>> {
  const all = new Map(operations.map((operation): [Operation, Measured[]] => [operation, []]));
  // The first ones find nothing compiled.
  for (let round = -2; round < rounds; round++) {
    for (const operation of operations) {
      const measured = await ask(operation, documentOf(kind, bytes, operation === "create" ? 0 : round));
      if (round >= 0) all.get(operation)?.push(measured);
    }
  }
  return all;
}

await using stage = await openStage();
const service = await stage.serve(inspectable);
await using inspector = await openInspector(service.stderr());
const longestTurn = await startProbe(inspector);
const dispatcher = new Agent({ connections: 1 });
const ask = asker(service.url, longestTurn, dispatcher);
for (const kind of kinds) {
  title(`${kind}: how long a request takes, and the longest turn of the event loop meanwhile; medians of ${rounds}`);
  line("", ...operations);
  const perMb = new Map<string, number>();
  const missed: string[] = [];
  const failed: string[] = [];
  for (const size of kilobytes) {
    const mb = size / 1_000;
    const measured = await measure(ask, kind, size * 1_000);
    const cells = operations.map((operation) => {
      const runs = measured.get(operation) ?? [];
      const [took, blocked] = [
        median(runs.flatMap(({ ms }) => (Number.isNaN(ms) ? [] : ms))),
        median(runs.map(({ blockedMs }) => blockedMs)),
      ];
      perMb.set(`${operation} ${size}`, took / mb);
      const refused = runs.filter(({ ms }) => Number.isNaN(ms)).length;
      if (refused > 0) failed.push(`${refused} ${operation} of ${size} KB`);
      if (blocked > allowed.base + allowed.perMb * mb) missed.push(`${operation} of ${size} KB`);
      return `${took.toFixed(1)} ms, ${blocked.toFixed(1)} ms`;
    });
    line(`${size} KB`, ...cells);
  }
  verdict("answers", failed.length === 0, `none is refused${failed.length === 0 ? "" : `: ${failed.join(", ")}`}`);
  const bound = `${allowed.perMb} ms for each MB, and ${allowed.base} ms`;
  verdict("turns", missed.length === 0, `at most ${bound}${missed.length === 0 ? "" : `: ${missed.join(", ")}`}`);
  const grown = operations.map(
    (operation) => (perMb.get(`${operation} 5000`) ?? 0) / (perMb.get(`${operation} 1000`) ?? 1),
  );
  const figures = grown.map((ratio) => ratio.toFixed(2)).join(", ");
  verdict("linear", Math.max(...grown) <= linear, `a MB of 5 takes at most ${linear} times one alone (${figures})`);
}
await dispatcher.destroy();
