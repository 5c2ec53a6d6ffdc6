/**
 * What is compared: the service as users get it, the same with coalescing switched off if that is asked for, and the
 * control. Each is a process of its own with a database of its own on one server, and all of them run at once: those that
 * are not asked cost next to nothing, and what else the machine does hits them alike.
 */

import postgres from "postgres";
import { migrate } from "../../src/db/migrate.ts";
import { type DataFolder, processesOf, type ServiceProcess, startServiceProcess } from "../../tests/support/process.ts";
import { startControl } from "./control-process.ts";
import { controlSequence } from "./control-statements.ts";
import { type Ids, seed } from "./seed.ts";

export type SideName = "service" | "off" | "control";

export interface Side {
  readonly name: SideName;
  readonly url: string;
  /** The process that answers. */
  readonly pid: number;
  readonly databaseUrl: string;
  /** For what is done between the measurements. */
  readonly sql: postgres.Sql;
}

export interface Sides extends AsyncDisposable {
  readonly all: readonly Side[];
  readonly ids: Ids;
  /** Every process of PostgreSQL, without the shell that watches over it. */
  databasePids(): number[];
}

type Settings = Readonly<Record<string, string>>;

/** How the service is started, here and to tell how long that takes. */
export function startService(folder: DataFolder, settings: Settings = {}) {
  return startServiceProcess({ settings: { DATA_DIR: folder.path, NODE_ENV: "production", ...settings } });
}

/** PostgreSQL's own, without the shell that watches over it. */
export function databasePids(folder: DataFolder): number[] {
  return processesOf(folder.path)
    .filter(({ command }) => !command.startsWith("/bin/sh"))
    .map(({ pid }) => pid);
}

/**
 * Starts the others beside a service on its embedded database, and fills the tables of all.
 *
 * @param service is stopped with them
 * @param settings those of the service, for the other one
 */
export async function openSides(
  folder: DataFolder,
  service: ServiceProcess,
  { withOff = false, settings = {} }: { readonly withOff?: boolean; readonly settings?: Settings } = {},
): Promise<Sides> {
  const all: Side[] = [];
  const processes: AsyncDisposable[] = [service];
  const dispose = async () => {
    for (const { sql } of all) await sql.end();
    // The service last: the database of all is its own.
    for (const process of processes.reverse()) await process[Symbol.asyncDispose]();
  };
  const add = (name: SideName, { url, pid }: { url: string; pid: number }, databaseUrl: string): Side => {
    const side = { name, url, pid, databaseUrl, sql: postgres(databaseUrl, { max: 1, onnotice: () => {} }) };
    all.push(side);
    return side;
  };
  try {
    const own = add("service", service, service.databaseUrl ?? "");
    if (withOff) {
      const databaseUrl = await newDatabase(own, "uncoalesced");
      const off = await startService(folder, { ...settings, DATABASE_URL: databaseUrl, COALESCE: "off" });
      processes.push(off);
      add("off", off, databaseUrl);
    }
    const databaseUrl = await newDatabase(own, "control");
    await migrate(databaseUrl);
    const control = await startControl(databaseUrl);
    processes.push(control);
    await add("control", control, databaseUrl).sql.unsafe(controlSequence);
    const ids = await seed(
      service.url,
      all.map(({ sql }) => sql),
    );
    await tidy(all);
    return { all, ids, databasePids: () => databasePids(folder), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function newDatabase({ sql, databaseUrl }: Side, name: string): Promise<string> {
  await sql.unsafe(`create database ${name} encoding 'UTF8' template template0`);
  const url = new URL(databaseUrl);
  url.pathname = `/${name}`;
  return url.href;
}

/** Leaves no dead rows of one scenario to the next, and nothing to write to disk. */
export async function tidy(all: readonly Side[]): Promise<void> {
  for (const { sql } of all) await sql`vacuum (analyze) sessions, events`;
  const [first] = all;
  if (first !== undefined) await first.sql`checkpoint`;
}
