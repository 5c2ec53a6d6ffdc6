/** One operation at so many connections: rounds in which every side is asked, one after the other. */

import { setTimeout as sleep } from "node:timers/promises";
import { type Measurement, type Operation, processorMs, runLoad } from "../load.ts";
import { scenarios } from "../scenarios.ts";
import type { Side, SideName, Sides } from "./sides.ts";

export interface Figures extends Measurement {
  /** Microseconds of processor time a request, until its events are published: in the process that answers. */
  readonly nodeUs: number;
  /** The same in PostgreSQL. */
  readonly postgresUs: number;
  /** How many events were not published yet when the last request was answered. */
  readonly behind: number;
}

export type Round = Readonly<Partial<Record<SideName, Figures>>>;

export interface Plan {
  readonly operation: Operation;
  readonly connections: number;
  readonly sides: readonly SideName[];
  readonly rounds: number;
  /** Of a round, but longer where requests take long. */
  readonly seconds: number;
  /** How long each side is asked before the first round. */
  readonly warmSeconds: number;
}

/** Some requests were not answered, or not with success: figures of the others would say nothing. */
export class RequestsFailed extends Error {}

/** Enough of them that the code they run is compiled in seconds; by one connection it takes a minute. */
const warmingConnections = 64;

/**
 * Asks each side so often that the rounds to come find it as it is after a minute of work, and not as it starts.
 *
 * @throws {RequestsFailed}
 */
export async function warmUp(sides: Sides, plan: Plan): Promise<void> {
  for (const side of sides.all) {
    if (!plan.sides.includes(side.name)) continue;
    await run(sides, side, { ...plan, connections: warmingConnections }, plan.warmSeconds * 2);
  }
}

/**
 * Measures; who comes first is another one in each round.
 *
 * @throws {RequestsFailed}
 */
export async function measure(sides: Sides, plan: Plan): Promise<Round[]> {
  const asked = sides.all.filter(({ name }) => plan.sides.includes(name));
  const warm: Figures[] = [];
  for (const side of asked) warm.push(await run(sides, side, plan, plan.warmSeconds));
  const seconds = roundSeconds(plan, Math.min(...warm.map(({ perSecond }) => perSecond)));
  const rounds: Round[] = [];
  for (let number = 0; number < plan.rounds; number++) {
    const round: Partial<Record<SideName, Figures>> = {};
    // Whoever comes later finds what those before left to write back: by turns.
    for (let turn = 0; turn < asked.length; turn++) {
      const side = asked[(number + turn) % asked.length];
      if (side !== undefined) round[side.name] = await run(sides, side, plan, seconds);
    }
    rounds.push(round);
  }
  return rounds;
}

const answersEach = 8;
const mostSeconds = 6;

/** What is under way when a round ends is not counted: each connection must have had several answers by then. */
function roundSeconds({ seconds, connections }: Plan, perSecond: number): number {
  return Math.max(seconds, Math.min((answersEach * connections) / perSecond, mostSeconds));
}

async function run(sides: Sides, side: Side, { operation, connections }: Plan, seconds: number): Promise<Figures> {
  const { ids, order } = scenarios[operation];
  // What comes in turns begins where each of them is a change.
  if (order === "turns") await side.sql`update sessions set phase = 'running' where phase = 'paused'`;
  const databasePids = sides.databasePids();
  const before = { node: processorMs([side.pid]), postgres: processorMs(databasePids) };
  const load = { url: side.url, operation, ids: sides.ids[ids], seconds, connections };
  const measurement = await runLoad(load);
  const { errors, requests } = measurement;
  if (errors > 0 || requests === 0) {
    throw new RequestsFailed(`${errors} of ${requests} requests to the ${side.name} failed`);
  }
  const behind = await published(side);
  const each = (began: Map<number, number>, ended: Map<number, number>) => {
    const used = [...ended].map(([pid, ms]) => ms - (began.get(pid) ?? ms));
    return (used.reduce((sum, ms) => sum + ms, 0) * 1_000) / requests;
  };
  return {
    ...measurement,
    nodeUs: each(before.node, processorMs([side.pid])),
    postgresUs: each(before.postgres, processorMs(databasePids)),
    behind,
  };
}

const publishedWithinMs = 30_000;

/**
 * Waits until every event is published: what one side has left to do must not slow down the next one's round.
 *
 * @returns how many were not when it began
 */
async function published({ name, sql }: Side): Promise<number> {
  if (name === "control") return 0;
  let first: number | undefined;
  for (const end = performance.now() + publishedWithinMs; performance.now() < end; await sleep(10)) {
    const [row] = await sql<{ behind: number }[]>`
      select greatest(coalesce((select max(position) from events), 0) - r.position, 0)::int as behind
      from relays r where r.name = 'redis'`;
    first ??= row?.behind ?? 0;
    if (row?.behind === 0) return first;
  }
  throw new Error(`events were not published within ${publishedWithinMs} ms`);
}
