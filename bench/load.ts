/** Connections that ask for one thing, for so long: by wrk, or by autocannon where that is missing. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { scenarios, sessionFields } from "./scenarios.ts";

export type Operation = keyof typeof scenarios;
export const operations = Object.keys(scenarios) as readonly Operation[];

export interface Measurement {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Answers that are not 2xx, and connections that broke. */
  readonly errors: number;
  /** How many were answered. */
  readonly requests: number;
}

export interface LoadRun {
  readonly url: string;
  readonly operation: Operation;
  /** As the operation's scenario says; a mix creates sessions of agents with the ids of sessions. */
  readonly ids: readonly string[];
  /** The lease token of each session: each request then names it. */
  readonly tokens?: readonly string[];
  readonly seconds: number;
  /** Undefined: 32. */
  readonly connections?: number;
}

const json = "application/json";
const script = fileURLToPath(new URL("./wrk.lua", import.meta.url));
const hasWrk = spawnSync("wrk", ["--version"]).error === undefined;

/** The program that makes the requests. */
export const loader = hasWrk ? "wrk" : "autocannon";

/** Runs one kind of request for so long. */
export function runLoad(run: LoadRun): Promise<Measurement> {
  return hasWrk ? runWrk(run) : runAutocannon(run);
}

let runs = 0;

/** Where the numbers of the next run begin: nine digits, a million apart. */
function firstNumber(): number {
  return 100_000_000 + (runs++ % 800) * 1_000_000;
}

async function runWrk(run: LoadRun): Promise<Measurement> {
  const folder = mkdtempSync(join(tmpdir(), "session-bench-"));
  try {
    const plan = writeRequests(folder, run);
    // wrk counts whole seconds, and ends with its figures when it is interrupted.
    const { url, seconds, connections = 32 } = run;
    const args = ["-t1", `-c${connections}`, `-d${Math.ceil(seconds) + 1}s`, "--timeout", "10s", "-s", script, url];
    const { order } = scenarios[run.operation];
    const own = { BENCH_FOLDER: folder, BENCH_PLAN: plan, BENCH_ORDER: order, BENCH_NUMBER: String(firstNumber()) };
    const child = spawn("wrk", args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...own } });
    const output = collect(child);
    const timer = setTimeout(() => child.kill("SIGINT"), seconds * 1_000);
    await once(child, "close");
    clearTimeout(timer);
    const line = /^RESULT (.*)$/m.exec(output())?.[1];
    if (line === undefined) throw new Error(`wrk gave no result:\n${output()}`);
    const result = JSON.parse(line) as { seconds: number } & Omit<Measurement, "perSecond">;
    const { requests, p50Ms, p99Ms, errors } = result;
    return { perSecond: requests / result.seconds, p50Ms, p99Ms, errors, requests };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function collect(child: ChildProcess): () => string {
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  return () => output;
}

/** Writes the requests as they go over the wire; gives their numbers, each as often as it is to come. */
function writeRequests(folder: string, { url, operation, ids, tokens }: LoadRun): string {
  writeFileSync(join(folder, "ids"), ids.join("\n"));
  if (tokens !== undefined) writeFileSync(join(folder, "tokens"), tokens.join("\n"));
  const { host } = new URL(url);
  const plan: number[] = [];
  for (const [at, { method, path, body, type, ofTen = 1 }] of scenarios[operation].requests.entries()) {
    const head = [`${method} ${path} HTTP/1.1`, `Host: ${host}`];
    if (tokens !== undefined) head.push("Lease-Token: {token}");
    if (body !== undefined) head.push(`Content-Type: ${type ?? json}`);
    if (method !== "GET") head.push(`Content-Length: ${lengthOf(body ?? "")}`);
    writeFileSync(join(folder, `request-${at + 1}`), `${head.join("\r\n")}\r\n\r\n${body ?? ""}`);
    for (let turn = 0; turn < ofTen; turn++) plan.push(at + 1);
  }
  return plan.join(" ");
}

/** Of a body, in bytes, once an id and numbers are put in. */
function lengthOf(body: string): number {
  return Buffer.byteLength(body.replaceAll("{id}", "i".repeat(36)).replaceAll("{number}", "9".repeat(9)));
}

/** What is used of autocannon, which brings no types. */
type Autocannon = (options: {
  url: string;
  connections: number;
  duration: number;
  sampleInt: number;
  requests: readonly { setupRequest: (request: object) => object }[];
}) => Promise<{
  /** In seconds. */
  duration: number;
  requests: { total: number };
  latency: { p50: number; p99: number };
  non2xx: number;
  errors: number;
}>;

async function runAutocannon(run: LoadRun): Promise<Measurement> {
  const autocannon = createRequire(import.meta.url)("autocannon") as Autocannon;
  const { url, seconds, connections = 32 } = run;
  const next = requestsOf(run);
  const result = await autocannon({
    url,
    connections,
    duration: seconds,
    sampleInt: 100,
    requests: [{ setupRequest: (request) => ({ ...request, ...next() }) }],
  });
  const perSecond = result.requests.total / result.duration;
  // It counts whole milliseconds: where they say nothing the mean stands for the middle.
  const meanMs = (connections * 1_000) / perSecond;
  return {
    perSecond,
    p50Ms: meanMs < 5 ? meanMs : result.latency.p50,
    p99Ms: Math.max(result.latency.p99, meanMs),
    errors: result.non2xx + result.errors,
    requests: result.requests.total,
  };
}

/** Gives the next request that any connection is to send. */
function requestsOf({ operation, ids, tokens }: LoadRun) {
  const { requests, order } = scenarios[operation];
  const plan = requests.flatMap((request) => Array.from({ length: request.ofTen ?? 1 }, () => request));
  let number = firstNumber();
  let turn = 0;
  return () => {
    const [at, place] =
      order === "turns"
        ? [turn % ids.length, Math.floor(turn / ids.length) % plan.length]
        : [Math.floor(Math.random() * ids.length), Math.floor(Math.random() * plan.length)];
    turn++;
    number++;
    const { method, path, body, type = json } = plan[place] ?? { method: "GET", path: "/" };
    const fill = (text: string) => text.replaceAll("{id}", ids[at] ?? "").replaceAll("{number}", String(number));
    return {
      method,
      path: fill(path),
      headers: {
        ...(body === undefined ? {} : { "content-type": type }),
        ...(tokens === undefined ? {} : { "lease-token": tokens[at] ?? "" }),
      },
      body: body === undefined ? undefined : fill(body),
    };
  };
}

/** The body of a create: a context of 600 bytes. */
export function newSession(agentId: string) {
  return { agent_id: agentId, ...sessionFields };
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
