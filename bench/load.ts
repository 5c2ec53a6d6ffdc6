/** Thirty-two connections that ask for one thing, for so long: by wrk, or by autocannon where that is missing. */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const operations = ["create", "get", "patch", "list"] as const;
export type Operation = (typeof operations)[number];

export interface Measurement {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that are not 2xx, and connections that broke. */
  readonly errors: number;
}

export interface LoadRun {
  readonly url: string;
  readonly operation: Operation;
  /** Session ids for get and patch, agent ids for create and list. */
  readonly ids: readonly string[];
  readonly seconds: number;
}

const connections = 32;
const script = fileURLToPath(new URL("./wrk.lua", import.meta.url));
const hasWrk = spawnSync("wrk", ["--version"]).error === undefined;

/** The program that makes the requests. */
export const loader = hasWrk ? "wrk" : "autocannon";

/** Runs one kind of request for so long. */
export function runLoad(run: LoadRun): Promise<Measurement> {
  return hasWrk ? runWrk(run) : runAutocannon(run);
}

let seed = 0;

async function runWrk({ url, operation, ids, seconds }: LoadRun): Promise<Measurement> {
  const folder = mkdtempSync(join(tmpdir(), "session-bench-"));
  try {
    const file = join(folder, "ids");
    writeFileSync(file, ids.join("\n"));
    const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "-s", script, url];
    const env = { ...process.env, BENCH_OP: operation, BENCH_IDS: file, BENCH_SEED: String(++seed) };
    const child = spawn("wrk", args, { stdio: ["ignore", "pipe", "pipe"], env });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    await once(child, "close");
    const line = /^RESULT (.*)$/m.exec(output)?.[1];
    if (line === undefined) throw new Error(`wrk gave no result:\n${output}`);
    const result = JSON.parse(line) as { requests: number; seconds: number } & Omit<Measurement, "perSecond">;
    const { p50Ms, p99Ms, errors } = result;
    return { perSecond: result.requests / result.seconds, p50Ms, p99Ms, errors };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is used of autocannon, which brings no types. */
type Autocannon = (options: {
  url: string;
  connections: number;
  duration: number;
  requests: readonly { method: string; path: string; body?: string; headers?: Record<string, string> }[];
}) => Promise<{
  requests: { average: number };
  latency: { p50: number; p99: number };
  non2xx: number;
  errors: number;
}>;

async function runAutocannon({ url, operation, ids, seconds }: LoadRun): Promise<Measurement> {
  const autocannon = createRequire(import.meta.url)("autocannon") as Autocannon;
  const requests = Array.from({ length: 5_000 }, () => anyRequest(operation, ids));
  const result = await autocannon({ url, connections, duration: seconds, requests });
  return {
    perSecond: result.requests.average,
    p50Ms: result.latency.p50,
    p99Ms: result.latency.p99,
    errors: result.non2xx + result.errors,
  };
}

function anyRequest(operation: Operation, ids: readonly string[]) {
  const id = ids[Math.floor(Math.random() * ids.length)] ?? "";
  const headers = { "content-type": "application/json" };
  switch (operation) {
    case "get":
      return { method: "GET", path: `/sessions/${id}` };
    case "list":
      return { method: "GET", path: `/sessions/?agent_id=${id}&limit=10` };
    case "create":
      return { method: "POST", path: "/sessions/", headers, body: JSON.stringify(newSession(id)) };
    case "patch":
      return {
        method: "PATCH",
        path: `/sessions/${id}`,
        headers,
        body: JSON.stringify({ checkpoint: newCheckpoint() }),
      };
  }
}

/** The body of a create: a context of 600 bytes. */
export function newSession(agentId: string) {
  const context = { text: "lorem ipsum dolor sit amet ".repeat(22) };
  return { agent_id: agentId, session_type: "development", runtime_backend: "local", context };
}

/** A checkpoint of 300 bytes, a new one each time. */
function newCheckpoint() {
  const salt = Math.floor(Math.random() * 1e9);
  return { step: 1, salt, text: "checkpoint of some work ".repeat(11) };
}

/** Resident memory of a process, in MB; undefined where that can't be told. */
export function residentMb(pid: number): number | undefined {
  try {
    const kb = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return kb === undefined ? undefined : Number(kb) / 1024;
  } catch {
    const kb = Number(spawnSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" }).stdout);
    return kb > 0 ? kb / 1024 : undefined;
  }
}

/** Processor time that each of the processes has used so far, in milliseconds; of those of which it can be told. */
export function processorMs(pids: readonly number[]): Map<number, number> {
  const used = new Map<number, number>();
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      // Linux counts in hundredths of a second.
      used.set(pid, (Number(fields[11]) + Number(fields[12])) * 10);
    } catch {
      // It has ended, or this is not Linux.
    }
  }
  return used;
}
