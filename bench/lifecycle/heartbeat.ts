/** What a heartbeat costs beside the change of a checkpoint: the same sessions, the same leases, by turns. */

import { Agent, request } from "undici";
import { openStage, type StagedService } from "../events/stage.ts";
import { median, spread } from "../figures.ts";
import { processorMs } from "../load.ts";
import { line, title, verdict } from "./print.ts";

const connections = 32;
const sessions = 500;

interface Held {
  readonly id: string;
  readonly token: string;
}

interface Rate {
  readonly perSecond: number;
  /** Microseconds of processor time, the service's and the database's. */
  readonly cpuUs: number;
}

type Send = (path: string, method: "POST" | "PATCH", body: object | undefined, token?: string) => Promise<unknown>;

/** Measures, prints, and says what it was to be. */
export async function benchHeartbeat({ quick }: { readonly quick: boolean }): Promise<void> {
  await using stage = await openStage();
  const service = await stage.serve();
  const dispatcher = new Agent({ connections });
  const send: Send = async (path, method, body, token) => {
    const answer = await request(`${service.url}${path}`, {
      method,
      dispatcher,
      headers: { "content-type": "application/json", ...(token === undefined ? {} : { "lease-token": token }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 300) throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text}`);
    return JSON.parse(text);
  };
  const held = await hold(send);
  let step = 0;
  const kinds = {
    heartbeat: ({ id, token }: Held) => send(`/sessions/${id}/heartbeat`, "POST", undefined, token),
    checkpoint: ({ id, token }: Held) =>
      send(
        `/sessions/${id}`,
        "PATCH",
        { checkpoint: { step: ++step, text: "checkpoint of some work ".repeat(11) } },
        token,
      ),
  };
  const rates = { heartbeat: [] as Rate[], checkpoint: [] as Rate[] };
  const names = Object.keys(kinds) as (keyof typeof kinds)[];
  const seconds = quick ? 2 : 6;
  for (const name of names) await run(held, kinds[name], 1, [service], stage.databasePids());
  for (let round = 0; round < (quick ? 3 : 7); round++) {
    for (const name of names) rates[name].push(await run(held, kinds[name], seconds, [service], stage.databasePids()));
  }
  await dispatcher.destroy();
  title(`Heartbeats and checkpoints of ${sessions} sessions that are held, ${connections} connections, by turns`);
  line("", "a second", "all", "processor time each");
  const perSecond = (rate: number) => `${Math.round(rate)}/s`;
  for (const name of names) {
    const each = rates[name].map((rate) => rate.perSecond);
    const cpu = median(rates[name].map(({ cpuUs }) => cpuUs));
    line(name, perSecond(median(each)), spread(each, perSecond), `${Math.round(cpu)} µs`);
  }
  const ratio =
    median(rates.heartbeat.map((rate) => rate.perSecond)) / median(rates.checkpoint.map((rate) => rate.perSecond));
  verdict("heartbeat", ratio >= 1, `at least as fast as a change of the checkpoint (${ratio.toFixed(2)} times)`);
}

async function hold(send: Send): Promise<Held[]> {
  const held: Held[] = [];
  for (let at = 0; at < sessions; at++) {
    await send("/sessions/", "POST", { agent_id: "00000000-0000-4000-8000-000000000000", phase: "pending" });
    const claimed = (await send("/sessions/claim", "POST", {
      worker_id: `worker-${at % 20}`,
      lease_seconds: 3_600,
    })) as {
      id: string;
      lease_token: number;
    };
    held.push({ id: claimed.id, token: String(claimed.lease_token) });
  }
  return held;
}

/** Asks on every connection, again and again. */
async function run(
  held: readonly Held[],
  act: (one: Held) => Promise<unknown>,
  seconds: number,
  services: readonly StagedService[],
  databasePids: readonly number[],
): Promise<Rate> {
  const pids = [...services.map(({ pid }) => pid), ...databasePids];
  const before = processorMs(pids);
  const began = performance.now();
  let count = 0;
  const worker = async () => {
    while (performance.now() - began < seconds * 1_000) {
      const one = held[Math.floor(Math.random() * held.length)];
      if (one !== undefined) await act(one);
      count++;
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  const took = (performance.now() - began) / 1_000;
  const used = [...processorMs(pids)].reduce((sum, [pid, ms]) => sum + ms - (before.get(pid) ?? ms), 0);
  return { perSecond: count / took, cpuUs: (used * 1_000) / count };
}
