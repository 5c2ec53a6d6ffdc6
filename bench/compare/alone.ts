/**
 * PostgreSQL alone: pgbench runs the service's statements and the control's, by turns on the same server. What is missing
 * from there to a request's time is HTTP, validation, the driver.
 */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { median, spread } from "../figures.ts";
import { line, title } from "../lifecycle/print.ts";
import { type AloneOperation, aloneScripts, variables } from "./alone-statements.ts";
import type { Cell } from "./results.ts";
import type { Sides } from "./sides.ts";

const rounds = 5;
const seconds = 1;
const clientCounts = [1, 8];

interface Alone {
  readonly operation: AloneOperation;
  readonly clients: number;
  /** Statements a second in each round. */
  readonly service: readonly number[];
  readonly control: readonly number[];
}

/** Undefined where there is none. */
function findPgbench(): string | undefined {
  if (spawnSync("pgbench", ["--version"]).status === 0) return "pgbench";
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root) : [];
  return versions.map((version) => join(root, version, "bin/pgbench")).find((file) => existsSync(file));
}

/**
 * Measures and prints.
 *
 * @param sides of a service that publishes nothing: events that pgbench makes would keep it busy
 * @param cells of the same operations over HTTP, to tell what share of a request this is
 */
export async function measureAlone(sides: Sides, cells: readonly Cell[]): Promise<readonly Alone[] | undefined> {
  const pgbench = findPgbench();
  title(`PostgreSQL alone, by pgbench, prepared statements, ${rounds} rounds of ${seconds} s by turns`);
  if (pgbench === undefined) {
    console.log("left out: pgbench is not installed");
    return undefined;
  }
  line("", "service/s", "control/s", "ratio", "of a request's time");
  const measured: Alone[] = [];
  const scripts = await aloneScripts();
  for (const operation of Object.keys(scripts) as AloneOperation[]) {
    for (const clients of clientCounts) {
      const rates = await inTurns(pgbench, sides, scripts[operation], clients);
      measured.push({ operation, clients, ...rates });
      const ratios = rates.service.map((rate, at) => rate / (rates.control[at] ?? 0));
      line(
        `${operation}, ${clients} at once`,
        rateText(rates.service),
        rateText(rates.control),
        `${median(ratios).toFixed(2)} (${spread(ratios, (ratio) => ratio.toFixed(2))})`,
        clients === 1 ? shareText(operation, rates, cells) : "",
      );
    }
  }
  return measured;
}

/** Of the connection: as the service sets them (see src/db/line.ts), and as the driver leaves them. */
const settings = { service: "-c plan_cache_mode=force_generic_plan -c jit=off", control: "" };

type Rates = Pick<Alone, "service" | "control">;

async function inTurns(
  pgbench: string,
  { all }: Sides,
  scripts: Readonly<Record<"service" | "control", string>>,
  clients: number,
): Promise<Rates> {
  const rates = { service: [] as number[], control: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const names = round % 2 === 0 ? (["service", "control"] as const) : (["control", "service"] as const);
    for (const name of names) {
      const databaseUrl = all.find((side) => side.name === name)?.databaseUrl ?? "";
      rates[name].push(await run(pgbench, databaseUrl, scripts[name], { clients, settings: settings[name] }));
    }
  }
  return rates;
}

/** @returns statements a second, connecting not counted */
async function run(
  pgbench: string,
  databaseUrl: string,
  script: string,
  { clients, settings }: { readonly clients: number; readonly settings: string },
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "session-bench-"));
  try {
    const file = join(folder, "script.sql");
    writeFileSync(file, variables + script);
    const { hostname, port, username, password, pathname } = new URL(databaseUrl);
    const args = ["-n", "-M", "prepared", "-f", file, "-c", String(clients), "-T", String(seconds), pathname.slice(1)];
    const server = { PGHOST: hostname, PGPORT: port, PGUSER: username, PGPASSWORD: password };
    const env = { ...process.env, ...server, PGOPTIONS: settings };
    const child = spawn(pgbench, args, { stdio: ["ignore", "pipe", "pipe"], env });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const [code] = await once(child, "close");
    const perSecond = Number(/^tps = ([\d.]+)/m.exec(output)?.[1]);
    if (code !== 0 || !(perSecond > 0)) throw new Error(`pgbench failed:\n${output}`);
    return perSecond;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function rateText(rates: readonly number[]): string {
  return `${Math.round(median(rates))} (${spread(rates, (rate) => String(Math.round(rate)))})`;
}

function shareText(operation: AloneOperation, rates: Rates, cells: readonly Cell[]): string {
  const cell = cells.find((one) => one.operation === operation && one.connections === 1 && one.side === "service");
  if (cell === undefined) return "";
  // At one connection a second is so many requests, one after the other.
  const share = (perSecond: readonly number[], requests: number) =>
    `${Math.round((requests / median(perSecond)) * 100)} %`;
  return `service ${share(rates.service, cell.own.perSecond)}, control ${share(rates.control, cell.control.perSecond)}`;
}
