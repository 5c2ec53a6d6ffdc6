/**
 * How fast sessions are created a thousand at a time: `npm run bench:batch -- [--seconds=5] [--rounds=5] [--size=1000]`.
 *
 * Each session has a context of 600 bytes. One connection and two send batches as fast as they are answered, whole answers
 * and ids alone (`Prefer: return=minimal`) by turns, for what else the machine does hits both alike. The longest turn of
 * the service's event loop is told for such a batch, and for one of 8 MiB. So is the processor time for 1,000 sessions, of
 * the service (which publishes their events meanwhile) and of PostgreSQL: a busy machine changes that less than the rate.
 */

import { Agent, request } from "undici";
import { type Inspector, inspectable, openInspector } from "./cost/inspector.ts";
import { option } from "./cost/options.ts";
import { startProbe } from "./cost/turns.ts";
import { openStage } from "./events/stage.ts";
import { median, spread } from "./figures.ts";
import { line, ms, title, verdict } from "./lifecycle/print.ts";
import { newSession, processorMs } from "./load.ts";

const seconds = option("seconds", 5);
const rounds = option("rounds", 5);
const size = option("size", 1_000);

/** Sessions a second. */
const target = 8_000;
/** Milliseconds for which a request may block the event loop: some for each MB, beside what any request takes. */
const allowed = { perMb: 15, base: 5 };

const ways = { "whole answers": {}, "ids alone": { prefer: "return=minimal" } };
type Way = keyof typeof ways;

const agentOf = (n: number) => `00000000-0000-4000-8000-${String(n % 1_000).padStart(12, "0")}`;

/** So many sessions with a context of so many bytes. */
function batchOf(count: number, contextBytes: number): Buffer {
  const text = "some words of an agent's work, ".repeat(Math.ceil(contextBytes / 31)).slice(0, contextBytes - 11);
  const sessions = Array.from({ length: count }, (_, n) => ({ ...newSession(agentOf(n)), context: { text } }));
  return Buffer.from(JSON.stringify({ sessions }));
}

await using stage = await openStage();
const service = await stage.serve({ ...inspectable, BODY_LIMIT_BYTES: String(9 * 1024 * 1024) });

async function send(dispatcher: Agent, body: Buffer, way: Way): Promise<number> {
  const headers = { "content-type": "application/json", ...ways[way] };
  const answer = await request(`${service.url}/sessions/batch`, { method: "POST", dispatcher, body, headers });
  const text = await answer.body.arrayBuffer();
  if (answer.statusCode !== 201) {
    throw new Error(`${answer.statusCode} ${Buffer.from(text).toString("utf8", 0, 300)}`);
  }
  return text.byteLength;
}

interface Rated {
  readonly perSecond: number;
  /** Processor time for 1,000 sessions. */
  readonly serviceMs: number;
  readonly databaseMs: number;
}

function usedMs(pids: readonly number[]): number {
  return [...processorMs(pids).values()].reduce((sum, used) => sum + used, 0);
}

/** How fast they are created by so many connections. */
async function rate(connections: number, way: Way, body: Buffer): Promise<Rated> {
  const pids = stage.databasePids();
  const before = { service: usedMs([service.pid]), database: usedMs(pids) };
  const dispatcher = new Agent({ connections });
  const began = performance.now();
  const end = began + seconds * 1_000;
  let batches = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      for (; performance.now() < end; batches++) await send(dispatcher, body, way);
    }),
  );
  const took = performance.now() - began;
  const thousands = (batches * size) / 1_000;
  await dispatcher.close();
  return {
    perSecond: (thousands * 1_000_000) / took,
    serviceMs: (usedMs([service.pid]) - before.service) / thousands,
    databaseMs: (usedMs(pids) - before.database) / thousands,
  };
}

async function turns(inspector: Inspector): Promise<void> {
  const longestTurn = await startProbe(inspector);
  const dispatcher = new Agent({ connections: 1 });
  title(`The longest turn of the event loop while one batch is created; medians of ${rounds}`);
  for (const [name, body] of [
    [`${size} of 600 bytes`, batchOf(size, 600)],
    ["1000 of 8 KB", batchOf(1_000, 8_200)],
    ["40 of 200 KB", batchOf(40, 200_000)],
  ] as const) {
    const blocked: number[] = [];
    for (let round = -2; round < rounds; round++) {
      await longestTurn();
      await send(dispatcher, body, "whole answers");
      const turn = await longestTurn();
      if (round >= 0) blocked.push(turn);
    }
    const mb = body.length / 1e6;
    const bound = allowed.base + allowed.perMb * mb;
    line(
      `${name} (${mb.toFixed(1)} MB)`,
      `${median(blocked).toFixed(1)} ms`,
      spread(blocked, (turn) => turn.toFixed(1)),
    );
    verdict("turns", median(blocked) <= bound, `at most ${bound.toFixed(0)} ms`);
  }
  await dispatcher.close();
}

const body = batchOf(size, 600);
title(
  `Sessions created a second in batches of ${size} (${(body.length / 1e6).toFixed(2)} MB); ${rounds} rounds of ${seconds} s`,
);
for (const way of Object.keys(ways) as Way[]) await rate(2, way, body);
const best: number[] = [];
line("", "median", "rounds", "processor time for 1,000: service, PostgreSQL");
for (const connections of [1, 2]) {
  const rates = new Map((Object.keys(ways) as Way[]).map((way): [Way, Rated[]] => [way, []]));
  for (let round = 0; round < rounds; round++) {
    for (const [way, told] of rates) told.push(await rate(connections, way, body));
  }
  for (const [way, told] of rates) {
    const perSecond = told.map((one) => one.perSecond);
    best.push(median(perSecond));
    const used = [told.map((one) => one.serviceMs), told.map((one) => one.databaseMs)].map((all) => ms(median(all)));
    const name = `${connections} connection${connections === 1 ? "" : "s"}, ${way}`;
    line(
      name,
      `${Math.round(median(perSecond))}/s`,
      spread(perSecond, (one) => `${Math.round(one)}`),
      used.join(", "),
    );
  }
}
verdict("rate", Math.max(...best) >= target, `at least ${target} sessions a second, one way or other`);
await using inspector = await openInspector(service.stderr());
await turns(inspector);
