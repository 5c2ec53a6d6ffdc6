/**
 * How fast the service is beside a bare control, and what it costs: `node --import tsx bench/compare.ts [--quick]`.
 *
 * Both run at once, each in a process of its own, on databases of one PostgreSQL server, and are asked by turns: what
 * else the machine does hits both alike. The ratio of a round is taken within the round. How much the control's own
 * rounds differ says how noisy the machine was, and so what a ratio is worth.
 */

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { migrate } from "../src/db/migrate.ts";
import {
  type DataFolder,
  dataFolder,
  processesOf,
  type ServiceProcess,
  startServiceProcess,
} from "../tests/support/process.ts";
import { median, noise, spread } from "./figures.ts";
import { loader, type Measurement, newSession, type Operation, processorMs, residentMb, runLoad } from "./load.ts";

const quick = process.argv.includes("--quick");
const roundCount = quick ? 4 : 9;
const seconds = quick ? 1 : 4;
const laterStarts = quick ? 2 : 5;
const agents = 200;
const sessionsEach = 20;

/** At least this share of the control's speed. */
const expected: Record<Operation, number> = { create: 0.75, patch: 0.75, get: 0.9, list: 0.9 };

interface Side {
  readonly url: string;
  /** The process that answers. */
  readonly pid: number;
  readonly sessions: readonly string[];
  readonly agents: readonly string[];
}

interface Control extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

interface Cost {
  /** Microseconds of processor time a request: in the process that answers, and in PostgreSQL. */
  readonly nodeUs: number;
  readonly postgresUs: number;
}

interface Round {
  readonly service: Measurement & Cost;
  readonly control: Measurement & Cost;
}

async function main(): Promise<void> {
  using folder = dataFolder();
  const service = await measureStarts(folder);
  try {
    console.log(`At rest: ${memory(service, folder)}`);
    const databaseUrl = service.databaseUrl ?? "";
    const controlUrl = await secondDatabase(databaseUrl);
    await using control = await startControl(controlUrl);
    const ids = await fill(service.url, databaseUrl, controlUrl);
    const sides = {
      service: { ...ids, url: service.url, pid: service.pid },
      control: { ...ids, url: control.url, pid: control.pid },
    };
    console.log(
      `\nBy ${loader}, 32 connections, ${roundCount} rounds of ${seconds} s each by turns, ` +
        `${agents * sessionsEach} sessions at first, ${cpus().length} processors\n`,
    );
    console.log(header);
    for (const operation of ["get", "list", "patch", "create"] as const) {
      const rounds = await measure(operation, sides, folder);
      console.log(row(operation, rounds));
    }
    console.log(`\nAfter the load: ${memory(service, folder)}`);
  } finally {
    await service.stop();
  }
}

async function measureStarts(folder: DataFolder): Promise<ServiceProcess> {
  // The first of all builds what is not built, and is not counted.
  using other = dataFolder();
  await (await startServiceProcess({ settings: { DATA_DIR: other.path } })).stop();
  let service = await startServiceProcess({ settings: { DATA_DIR: folder.path } });
  console.log(`Start to ready: ${Math.round(service.startMs)} ms on an empty folder`);
  const later: number[] = [];
  for (let start = 0; start < laterStarts; start++) {
    await service.stop();
    service = await startServiceProcess({ settings: { DATA_DIR: folder.path } });
    later.push(service.startMs);
  }
  console.log(`Later starts:   ${Math.round(median(later))} ms (${spread(later, (ms) => `${Math.round(ms)}`)})`);
  return service;
}

function memory(service: ServiceProcess, folder: DataFolder): string {
  const database = databaseProcesses(folder).map((pid) => residentMb(pid) ?? 0);
  return (
    `${Math.round(residentMb(service.pid) ?? 0)} MB resident in the service (the embedded Valkey included), ` +
    `${Math.round(database.reduce((sum, mb) => sum + mb, 0))} MB in ${database.length} processes of PostgreSQL ` +
    "(shared pages counted in each)"
  );
}

/** PostgreSQL's own, without the shell that watches over it. */
function databaseProcesses(folder: DataFolder): number[] {
  return processesOf(folder.path)
    .filter(({ command }) => !command.startsWith("/bin/sh"))
    .map(({ pid }) => pid);
}

/** A database beside the service's own, with the same tables. */
async function secondDatabase(databaseUrl: string): Promise<string> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  await sql`create database control encoding 'UTF8' template template0`;
  await sql.end();
  const url = new URL(databaseUrl);
  url.pathname = "/control";
  await migrate(url.href);
  return url.href;
}

async function startControl(databaseUrl: string): Promise<Control> {
  const file = fileURLToPath(new URL("./control.ts", import.meta.url));
  const child = spawn(process.execPath, ["--import", "tsx", file], {
    env: { ...process.env, CONTROL_DATABASE_URL: databaseUrl, NODE_ENV: "production" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString().trim()));
    child.once("exit", () => reject(new Error("the control did not start")));
  });
  return {
    url,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** The same sessions on both sides: made by the service, copied to the control. */
async function fill(url: string, from: string, to: string): Promise<Omit<Side, "url" | "pid">> {
  const agentIds = Array.from({ length: agents }, () => randomUUID());
  for (const agentId of agentIds) {
    await Promise.all(Array.from({ length: sessionsEach }, () => create(url, agentId)));
  }
  const source = postgres(from, { max: 1, onnotice: () => {} });
  const target = postgres(to, { max: 1, onnotice: () => {} });
  const rows = await source<{ id: string; line: string }[]>`select id, to_jsonb(s) - 'status' as line from sessions s`;
  const columns = await source<{ name: string }[]>`
    select column_name as name from information_schema.columns
    where table_name = 'sessions' and is_generated = 'NEVER' order by ordinal_position`;
  const names = columns.map(({ name }) => `"${name}"`).join(", ");
  const lines = JSON.stringify(rows.map(({ line }) => line));
  await target.unsafe(
    `insert into sessions (${names}) select ${names} from jsonb_populate_recordset(null::sessions, $1::text::jsonb)`,
    [lines],
  );
  for (const sql of [source, target]) {
    await sql`vacuum analyze`;
    await sql.end();
  }
  return { agents: agentIds, sessions: rows.map(({ id }) => id) };
}

async function create(url: string, agentId: string): Promise<void> {
  const body = JSON.stringify(newSession(agentId));
  const answer = await fetch(`${url}/sessions/`, { method: "POST", body });
  if (answer.status !== 201) throw new Error(`not created: ${await answer.text()}`);
  await answer.arrayBuffer();
}

async function measure(
  operation: Operation,
  sides: { service: Side; control: Side },
  folder: DataFolder,
): Promise<Round[]> {
  const database = () => databaseProcesses(folder);
  const run = async (side: Side, forSeconds: number): Promise<Measurement & Cost> => {
    const ids = operation === "get" || operation === "patch" ? side.sessions : side.agents;
    const pids = database();
    const before = { node: processorMs([side.pid]), postgres: processorMs(pids) };
    const measurement = await runLoad({ url: side.url, operation, ids, seconds: forSeconds });
    const requests = measurement.perSecond * forSeconds;
    const each = (began: Map<number, number>, ended: Map<number, number>) => {
      const used = [...ended].map(([pid, ms]) => ms - (began.get(pid) ?? ms));
      return (used.reduce((sum, ms) => sum + ms, 0) * 1_000) / requests;
    };
    return {
      ...measurement,
      nodeUs: each(before.node, processorMs([side.pid])),
      postgresUs: each(before.postgres, processorMs(pids)),
    };
  };
  await run(sides.service, 1);
  await run(sides.control, 1);
  const rounds: Round[] = [];
  for (let number = 0; number < roundCount; number++) {
    // Whoever comes second finds what the first left to write back: by turns.
    if (number % 2 === 0) {
      const service = await run(sides.service, seconds);
      rounds.push({ service, control: await run(sides.control, seconds) });
    } else {
      const control = await run(sides.control, seconds);
      rounds.push({ service: await run(sides.service, seconds), control });
    }
  }
  const errors = rounds.reduce((sum, { service, control }) => sum + service.errors + control.errors, 0);
  if (errors > 0) throw new Error(`${errors} requests of ${operation} failed: the figures would say nothing`);
  return rounds;
}

const widths = [6, 9, 9, 31, 15, 15, 19, 19, 24];
const header = line([
  "",
  "service/s",
  "control/s",
  "ratio",
  "service p50/p99",
  "control p50/p99",
  "service CPU node+pg",
  "control CPU node+pg",
  "control's rounds",
]);

function row(operation: Operation, rounds: readonly Round[]): string {
  const ratios = rounds.map(({ service, control }) => service.perSecond / control.perSecond);
  const controls = rounds.map(({ control }) => control.perSecond);
  const verdict = median(ratios) >= expected[operation] ? "" : ` below ${expected[operation]}`;
  const latency = (side: keyof Round) => {
    const [p50, p99] = (["p50Ms", "p99Ms"] as const).map((key) => median(rounds.map((round) => round[side][key])));
    return `${p50?.toFixed(1)}/${p99?.toFixed(1)} ms`;
  };
  const cost = (side: keyof Round) => {
    const [node, database] = (["nodeUs", "postgresUs"] as const).map((key) =>
      Math.round(median(rounds.map((round) => round[side][key]))),
    );
    return `${node}+${database} µs`;
  };
  return line([
    operation,
    String(Math.round(median(rounds.map(({ service }) => service.perSecond)))),
    String(Math.round(median(controls))),
    `${median(ratios).toFixed(2)} (${spread(ratios, (ratio) => ratio.toFixed(2))})${verdict}`,
    latency("service"),
    latency("control"),
    cost("service"),
    cost("control"),
    `${spread(controls, (perSecond) => String(Math.round(perSecond)))}: ±${noise(controls)} %`,
  ]);
}

function line(cells: readonly string[]): string {
  return cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  ");
}

await main();
