/** Where what is thrown away after a test lies: in memory where there is room, for a disk takes its time with files. */

import { accessSync, constants, statfsSync } from "node:fs";
import { tmpdir } from "node:os";

const inMemory = "/dev/shm";

/** A run's databases and their log take up to 1.5 GB; a container has 64 MB there unless it is told otherwise. */
const neededBytes = 4 * 1024 ** 3;

/** The folder to make folders in: one in memory, or the system's for temporary files. */
export function scratchRoot(): string {
  if (process.env["TMPDIR"] !== undefined) return tmpdir();
  try {
    accessSync(inMemory, constants.R_OK | constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(inMemory);
    return bavail * bsize >= neededBytes ? inMemory : tmpdir();
  } catch {
    return tmpdir();
  }
}
