/** How long the service takes to start, and what memory it and its database hold. */

import { type DataFolder, dataFolder, type ServiceProcess } from "../../tests/support/process.ts";
import { median, spread } from "../figures.ts";
import { residentMb } from "../load.ts";
import { databasePids, startService } from "./sides.ts";

export interface Starts {
  /** Milliseconds from the process's start to ready: on an empty folder, and on one that is there. */
  readonly firstMs: number;
  readonly laterMs: readonly number[];
}

export interface Memory {
  /** In MB, resident. */
  readonly service: number;
  /** Of all its processes; pages that they share are counted in each. */
  readonly postgres: number;
}

const laterStarts = 5;

/** Starts and stops it again and again on an empty folder, and prints how long that took. */
export async function measureStarts(folder: DataFolder): Promise<Starts> {
  // The first of all builds what is not built, and is not counted.
  using other = dataFolder();
  await (await startService(other)).stop();
  const first = await startService(folder);
  await first.stop();
  const laterMs: number[] = [];
  for (let start = 0; start < laterStarts; start++) {
    const service = await startService(folder);
    laterMs.push(service.startMs);
    await service.stop();
  }
  const ms = (value: number) => `${Math.round(value)} ms`;
  const later = `${ms(median(laterMs))} (${spread(laterMs, ms)})`;
  console.log(`Start to ready: ${ms(first.startMs)} on an empty folder, later ${later}`);
  return { firstMs: first.startMs, laterMs };
}

/** Prints it too. */
export function memoryOf(when: string, service: ServiceProcess, folder: DataFolder): Memory {
  const pids = databasePids(folder);
  const memory = {
    service: Math.round(residentMb(service.pid) ?? 0),
    postgres: Math.round(pids.reduce((sum, pid) => sum + (residentMb(pid) ?? 0), 0)),
  };
  console.log(
    `Memory ${when}: ${memory.service} MB in the service, its broker included where that is embedded; ${memory.postgres} MB in ` +
      `${pids.length} processes of PostgreSQL, shared pages counted in each`,
  );
  return memory;
}
