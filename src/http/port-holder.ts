/** Which process listens on a port: for the message that says that it is taken. */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const listening = "0A";

/** e.g. `process 4711 (node)`; undefined where that can't be seen (not Linux, or another user's process). */
export function portHolder(port: number): string | undefined {
  try {
    const inodes = new Set([...listeners("/proc/net/tcp", port), ...listeners("/proc/net/tcp6", port)]);
    const pid = readdirSync("/proc").find((entry) => /^\d+$/.test(entry) && holdsOne(entry, inodes));
    return pid === undefined ? undefined : `process ${pid} (${readFileSync(`/proc/${pid}/comm`, "utf8").trim()})`;
  } catch {
    return undefined;
  }
}

function listeners(file: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return readFileSync(file, "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) && fields[3] === listening)
    .map((fields) => `socket:[${fields[9]}]`);
}

function holdsOne(pid: string, sockets: ReadonlySet<string>): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => sockets.has(readlinkSync(`/proc/${pid}/fd/${fd}`)));
  } catch {
    return false;
  }
}
