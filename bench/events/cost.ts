/** What publishing costs the write path: creates with the relay on and off, by turns in one run. */

import { randomUUID } from "node:crypto";
import { type Measurement, runLoad } from "../load.ts";
import { countEvents, type Stage, type StagedService, subscriber, usage } from "./stage.ts";

/** Microseconds of processor time a create: in the service, and in PostgreSQL. */
export interface Cost extends Measurement {
  readonly nodeUs: number;
  readonly postgresUs: number;
}

export interface CostRound {
  readonly on: Cost;
  readonly off: Cost;
  /** How many of the round's events were not at the subscriber yet when the last create was answered. */
  readonly behind: number;
}

const agents = Array.from({ length: 200 }, () => randomUUID());

export async function measureCost(stage: Stage, rounds: number, seconds: number): Promise<CostRound[]> {
  const [on, off] = [await stage.serve(), await stage.serve({ RELAY: "off" })];
  await using arrivals = await subscriber(stage.redisUrl);
  let behind = 0;
  const run = async (service: StagedService, forSeconds = seconds): Promise<Cost> => {
    const usedBy = { node: usage([service.pid]), postgres: usage(stage.databasePids()) };
    const load = { url: service.url, operation: "create", ids: agents, seconds: forSeconds } as const;
    const measurement = await runLoad(load);
    const creates = measurement.perSecond * forSeconds;
    const [nodeUs, postgresUs] = [usedBy.node() / creates, usedBy.postgres() / creates];
    if (measurement.errors > 0) throw new Error(`${measurement.errors} creates failed: the figures would say nothing`);
    if (service === on) {
      const received = arrivals.arrivals.length;
      const events = await countEvents(service.databaseUrl);
      behind = Math.max(events - received, 0);
      // What is left to publish must not slow down the other's round.
      await arrivals.has(events);
    }
    return { ...measurement, nodeUs, postgresUs };
  };
  await run(on, 1);
  await run(off, 1);
  const measured: CostRound[] = [];
  for (let round = 0; round < rounds; round++) {
    // Whoever comes second finds what the first left to write back: by turns.
    if (round % 2 === 0) {
      const first = await run(on);
      measured.push({ on: first, off: await run(off), behind });
    } else {
      const first = await run(off);
      measured.push({ off: first, on: await run(on), behind });
    }
  }
  if (arrivals.arrivals.length > (await countEvents(on.databaseUrl)) * 1.01) {
    throw new Error("more was published than was made with the relay on: RELAY=off does not turn it off");
  }
  await on.stop();
  await off.stop();
  return measured;
}
