/** What a CPU profile says: which functions the time was spent in, and on whose behalf. */

import { relative } from "node:path";
import { fileURLToPath } from "node:url";

/** As V8 writes it. */
export interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  /** The node that was running at each sample. */
  readonly samples: readonly number[];
  /** The time since the sample before, in microseconds. */
  readonly timeDeltas: readonly number[];
}

interface ProfileNode {
  readonly id: number;
  readonly children?: readonly number[];
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
}

export interface Share {
  readonly name: string;
  /** Of all the time but that in which there was nothing to do. */
  readonly share: number;
}

export interface ProfileSummary {
  /** The share of the whole time in which there was nothing to do. */
  readonly idle: number;
  /** By the time in the function itself; the functions that it calls have their own. */
  readonly functions: readonly Share[];
  readonly groups: readonly Share[];
}

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Adds up a profile, the largest first. */
export function summarize({ nodes, samples, timeDeltas }: CpuProfile): ProfileSummary {
  const selfUs = new Map<number, number>();
  for (const [at, id] of samples.entries()) selfUs.set(id, (selfUs.get(id) ?? 0) + (timeDeltas[at] ?? 0));
  const functions = new Map<string, number>();
  const groups = new Map<string, number>();
  let idleUs = 0;
  let busyUs = 0;
  const callers = callersOf(nodes);
  for (const node of nodes) {
    const us = selfUs.get(node.id) ?? 0;
    if (node.callFrame.functionName === "(idle)") {
      idleUs += us;
      continue;
    }
    busyUs += us;
    add(functions, nameOf(node, callers), us);
    add(groups, groupOf(node, callers), us);
  }
  const shares = (all: ReadonlyMap<string, number>): Share[] =>
    [...all]
      .map(([name, us]) => ({ name, share: us / Math.max(busyUs, 1) }))
      .sort((one, other) => other.share - one.share);
  return { idle: idleUs / Math.max(idleUs + busyUs, 1), functions: shares(functions), groups: shares(groups) };
}

function add(all: Map<string, number>, name: string, us: number): void {
  all.set(name, (all.get(name) ?? 0) + us);
}

function fileOf(url: string): string {
  return url.startsWith("file://") ? relative(root, fileURLToPath(url)) : url;
}

type Callers = ReadonlyMap<number, ProfileNode>;

function callersOf(nodes: readonly ProfileNode[]): Callers {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const callers = new Map<number, ProfileNode>();
  for (const caller of nodes) {
    for (const id of caller.children ?? []) if (byId.has(id)) callers.set(id, caller);
  }
  return callers;
}

/** Native functions stand in no file: of such a one, the nearest caller that does; undefined of V8's own work. */
function inFile(node: ProfileNode, callers: Callers): ProfileNode | undefined {
  for (let at: ProfileNode | undefined = node; at !== undefined; at = callers.get(at.id)) {
    if (at.callFrame.url !== "") return at;
  }
  return undefined;
}

function nameOf(node: ProfileNode, callers: Callers): string {
  const { functionName, url } = node.callFrame;
  const name = functionName === "" ? "(anonymous)" : functionName;
  const found = inFile(node, callers);
  if (found === undefined) return name;
  const place = `${fileOf(found.callFrame.url)}:${found.callFrame.lineNumber + 1}`;
  return url === "" ? `${name}, native, in ${found.callFrame.functionName} ${place}` : `${name} ${place}`;
}

/** Of libuv: each is a system call. */
const socketCalls = /^(write(v|Buffer|Utf8String|Latin1String|AsciiString)|shutdown|readStart|readStop)$/;

function groupOf(node: ProfileNode, callers: Callers): string {
  const { functionName } = node.callFrame;
  if (functionName === "(garbage collector)") return "garbage collection";
  // What V8 has no name for: reading from sockets, parsing HTTP, waiting to be scheduled.
  if (functionName === "(program)") return "native code without a name";
  if (node.callFrame.url === "" && socketCalls.test(functionName)) return "system calls: writing to sockets";
  const found = inFile(node, callers);
  if (found === undefined) return "V8 itself";
  const file = fileOf(found.callFrame.url);
  if (file.startsWith("dist/") || file.startsWith("src/")) return `ours: ${file.split("/")[1]}`;
  const [, name = ""] = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
  if (name === "postgres" || name === "zod" || name === "ioredis") return name;
  if (name !== "") return inFastify.test(name) ? "fastify and its plugins" : "other packages";
  return `node: ${nodePart(file)}`;
}

const inFastify = /fastify|avvio|find-my-way|light-my-request|secure-json-parse|reusify|process-warning|pino|fastq/;

function nodePart(file: string): string {
  if (/http/.test(file)) return "http";
  if (/stream|net|tty/.test(file)) return "net and streams";
  if (/timers/.test(file)) return "timers";
  if (/buffer|string_decoder|encoding/.test(file)) return "buffers";
  return "the rest";
}
