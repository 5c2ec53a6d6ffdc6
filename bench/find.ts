/**
 * What finding sessions costs when there is much: `npm run bench:find -- [--rows=1000000] [--rounds=41]`.
 *
 * The same lists, each of as many sessions, from a service on a database of 100,000 sessions and from one of 1,000,000, by
 * turns, on one server; both of 10,000 agents. And a table of 1,000 sessions that are large.
 */

import { Agent, request } from "undici";
import { startOwnRedis } from "../tests/support/engines.ts";
import { startPostgresServer } from "../tests/support/postgres-server.ts";
import { agentCount, agentOf, type Findable, fillHeavy, heavyAgent, labelled, openFindable } from "./cost/findable.ts";
import { option } from "./cost/options.ts";
import { median, spread } from "./figures.ts";
import { line, ms, title, verdict } from "./lifecycle/print.ts";

const few = 100_000;
const many = option("rows", 1_000_000);
const rounds = option("rounds", 41);
/** Requests of a round, one after the other: few, so that what else the machine does hits both sides alike. */
const requests = option("requests", 25);

/** At most so many times what it costs with fewer sessions. */
const worst = 1.3;

const heavyCount = 1_000;
const mostBytes = 1_000_000;
const mostMs = 50;

const dispatcher = new Agent({ connections: 1 });

async function get({ service }: Findable, path: string): Promise<{ readonly text: string; readonly next: string }> {
  const answer = await request(`${service.url}${path}`, { dispatcher });
  const text = await answer.body.text();
  if (answer.statusCode !== 200) throw new Error(`${path}: ${answer.statusCode} ${text.slice(0, 300)}`);
  return { text, next: String(answer.headers["x-next-cursor"] ?? "") };
}

/** The cursor after so many sessions: it is of any limit. */
async function cursorAfter(side: Findable, query: string, count: number): Promise<string> {
  let cursor = "";
  for (let at = 0; at < count; at += 1_000) {
    const { next } = await get(side, `/sessions/?${query}&limit=1000${cursor === "" ? "" : `&cursor=${cursor}`}`);
    cursor = next;
  }
  return cursor;
}

/** A query for each side and request, and how many sessions it gives. */
interface Case {
  readonly name: string;
  readonly size: number;
  readonly prepare: (side: Findable) => Promise<(n: number) => string>;
}

const pageOf =
  (query: string): Case["prepare"] =>
  async () =>
  () =>
    `/sessions/?limit=10&${query}`;

const page1000 =
  (query: string): Case["prepare"] =>
  async (side) => {
    const cursor = await cursorAfter(side, query, 10_000);
    return () => `/sessions/?limit=10&${query}&cursor=${cursor}`;
  };

const cases: readonly Case[] = [
  { name: "agent", size: 10, prepare: async () => (n) => `/sessions/?limit=10&agent_id=${agentOf(n * 37)}` },
  { name: "status and type", size: 10, prepare: pageOf("status=completed&session_type=task") },
  { name: "page 1,000, of all", size: 10, prepare: page1000("sort=-created_at") },
  { name: "page 1,000, status", size: 10, prepare: page1000("status=active") },
  { name: "page 1,000, type", size: 10, prepare: page1000("session_type=task") },
  { name: "label of 2,000, old", size: 10, prepare: pageOf("label=team:old") },
  {
    name: "external_id",
    size: 1,
    prepare:
      async ({ rows }) =>
      (n) =>
        `/sessions/?external_id=ticket-${((n * 7_919) % rows) + 1}`,
  },
];

/** Milliseconds of each request. */
async function round(side: Findable, pathOf: (n: number) => string, size: number, from: number): Promise<number[]> {
  const took: number[] = [];
  for (let n = from; n < from + requests; n++) {
    const start = performance.now();
    const { text } = await get(side, pathOf(n));
    took.push(performance.now() - start);
    if (n === from && JSON.parse(text).length !== size) throw new Error(`${pathOf(n)}: not ${size} sessions`);
  }
  return took;
}

async function compare({ name, size, prepare }: Case, sides: readonly [Findable, Findable]): Promise<void> {
  const paths = [await prepare(sides[0]), await prepare(sides[1])] as const;
  const medians: [number[], number[]] = [[], []];
  for (const at of [0, 1] as const) await round(sides[at], paths[at], size, 0);
  for (let number = 0; number < rounds; number++) {
    for (const at of number % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      // The same ones again: what the caches hold is no question here.
      medians[at].push(median(await round(sides[at], paths[at], size, 0)));
    }
  }
  const [small, large] = medians;
  const ratios = small.map((one, at) => (large[at] ?? one) / one);
  const figure = (values: readonly number[]) => `p50 ${median(values).toFixed(2)} ms`;
  const ratio = median(ratios);
  line(name, figure(small), figure(large), `${ratio.toFixed(2)} (${spread(ratios, (one) => one.toFixed(2))})`);
  verdict(name, ratio <= worst, `at most ${worst} times what it costs with ${few} sessions`);
}

async function summaries(side: Findable): Promise<void> {
  await fillHeavy(side.sql, heavyCount);
  const path = `/sessions/?agent_id=${heavyAgent}&view=summary&limit=${heavyCount}`;
  const took: number[] = [];
  let bytes = 0;
  for (let n = -20; n < rounds * 2; n++) {
    const start = performance.now();
    const { text } = await get(side, path);
    if (n >= 0) took.push(performance.now() - start);
    bytes = Buffer.byteLength(text);
    if (n === -20 && JSON.parse(text).length !== heavyCount) throw new Error(`not ${heavyCount} sessions`);
  }
  title(`view=summary of ${heavyCount} sessions of 100 KB each`);
  line("bytes", `${bytes}`);
  line("time", ms(median(took)), spread(took, ms));
  verdict("bytes", bytes <= mostBytes, `at most ${mostBytes}`);
  verdict("time", median(took) <= mostMs, `at most ${mostMs} ms`);
}

await using server = await startPostgresServer();
const redis = await startOwnRedis();
await using small = await openFindable(server.url, redis.url, few);
await using large = await openFindable(server.url, redis.url, many);
title(
  `Lists of sessions of ${agentCount} agents, ${labelled} of them labelled; by turns, ${rounds} rounds of ${requests} requests`,
);
line("", `${few} sessions`, `${many} sessions`, "ratio");
for (const one of cases) await compare(one, [small, large]);
await summaries(small);
await dispatcher.close();
await redis.stop();
