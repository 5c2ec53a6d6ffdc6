/** Processes whose clock is wrong: libfaketime, as Debian's package of that name installs it. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** The form for programs with threads, such as Node.js; undefined where it is not installed. */
const library = findLibrary();

export const hasFaketime = library !== undefined;

function findLibrary(): string | undefined {
  const folders = ["/usr/lib", "/usr/local/lib"].filter((folder) => existsSync(folder));
  return folders
    .flatMap((folder) => [folder, ...readdirSync(folder).map((name) => join(folder, name))])
    .map((folder) => join(folder, "faketime", "libfaketimeMT.so.1"))
    .find((path) => existsSync(path));
}

/**
 * Environment variables for a process whose clock is off. Only the time of day is: what measures how long something takes
 * runs on as it is, as it would on a machine that is set wrong; and so do the times of files.
 *
 * @param offset as libfaketime reads it: +1h, -1h
 */
export function clockOff(offset: string): Record<string, string> {
  if (library === undefined) throw new Error("libfaketime is not installed");
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: "1", NO_FAKE_STAT: "1" };
}
