/** What open streams cost in memory, and how soon an event has reached all of them. */

import { randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../tests/support/until.ts";
import { residentMb } from "../load.ts";
import { type Client, client, type Stage, type StagedService } from "./stage.ts";

export interface StreamsFigures {
  readonly streams: number;
  readonly beforeMb: number;
  readonly afterMb: number;
  /** From the change's answer until its event was on every stream that it is for, once an event. */
  readonly reachedAllMs: readonly number[];
}

const settleSeconds = 5;
const events = 20;

/** So many streams of everything: each event is for all of them. */
export async function measureFeedStreams(stage: Stage, streams: number): Promise<StreamsFigures> {
  const everyStream = Array.from({ length: streams }, (_, at) => at);
  return measure(stage, {
    sessions: 200,
    paths: () => everyStream.map(() => "/events/stream"),
    receivers: () => everyStream,
  });
}

/** So many streams of a session each: an event is for one of them. */
export async function measureSessionStreams(stage: Stage, streams: number): Promise<StreamsFigures> {
  return measure(stage, {
    sessions: streams,
    paths: (ids) => ids.map((id) => `/sessions/${id}/events/stream`),
    receivers: (changed) => [changed],
  });
}

interface Plan {
  readonly sessions: number;
  /** Of the streams to open. */
  readonly paths: (ids: readonly string[]) => readonly string[];
  /** Which of the streams an event is for, by the number of its session. */
  readonly receivers: (changed: number) => readonly number[];
}

async function measure(stage: Stage, plan: Plan): Promise<StreamsFigures> {
  const service = await stage.serve();
  await using http = client(service.url);
  const ids: string[] = [];
  for (let at = 0; at < plan.sessions; at++) ids.push((await http.create(randomUUID())).id);
  await warmUp(http, ids);
  const beforeMb = await settledMb(service);
  const open = await openStreams(service.url, plan.paths(ids));
  const reachedAllMs: number[] = [];
  for (let turn = 0; turn < events; turn++) {
    const changed = (turn * 37) % ids.length;
    const receivers = plan.receivers(changed).flatMap((at) => open[at] ?? []);
    reachedAllMs.push(await reach(http, ids[changed] ?? "", receivers));
  }
  // Told once the streams have been used: an event has been through them.
  const afterMb = await settledMb(service);
  for (const stream of open) stream.socket.destroy();
  await service.stop();
  return { streams: open.length, beforeMb, afterMb, reachedAllMs };
}

/** A process that has never worked grows by itself at first. */
async function warmUp(http: Client, ids: readonly string[]): Promise<void> {
  for (let round = 0; round < 20; round++) {
    await Promise.all(ids.slice(0, 200).map((id) => (round % 2 === 0 ? http.change(id) : http.read(id))));
  }
}

async function settledMb(service: StagedService): Promise<number> {
  await sleep(settleSeconds * 1_000);
  const mb = residentMb(service.pid);
  if (mb === undefined) throw new Error("the memory of a process can't be told here");
  return mb;
}

interface Stream {
  readonly socket: Socket;
  /** The end of what was received: an event's name in it is enough. */
  tail: string;
  /** When the last bytes came. */
  at: number;
}

/** As little of a client as will do: it measures the service, on the same machine. */
async function openStreams(url: string, paths: readonly string[]): Promise<Stream[]> {
  const { hostname, port } = new URL(url);
  const streams: Stream[] = [];
  for (const path of paths) {
    const socket = connect(Number(port), hostname);
    const stream: Stream = { socket, tail: "", at: 0 };
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.on("data", (chunk: string) => {
      stream.at = performance.now();
      stream.tail = (stream.tail + chunk).slice(-4_096);
    });
    socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}\r\nAccept: text/event-stream\r\n\r\n`);
    streams.push(stream);
    // In small groups: a burst of connections is not what is measured.
    if (streams.length % 50 === 0) await isOpen(stream, path);
  }
  for (const [at, stream] of streams.entries()) await isOpen(stream, paths[at] ?? "");
  return streams;
}

async function isOpen(stream: Stream, path: string): Promise<void> {
  await until(() => stream.tail.includes("\r\n\r\n"), `${path} to open`, { everyMs: 2 });
  if (!stream.tail.startsWith("HTTP/1.1 200")) throw new Error(`${path} did not open: ${stream.tail}`);
}

async function reach(http: Client, session: string, receivers: readonly Stream[]): Promise<number> {
  const { id, version, answeredAt } = await http.change(session);
  const mark = `"session_version":${version}`;
  const has = ({ tail }: Stream) => tail.includes(id) && tail.includes(mark);
  await until(() => receivers.every(has), `an event to reach ${receivers.length} streams`, { everyMs: 5 });
  const last = Math.max(...receivers.map(({ at }) => at));
  // The next event meets streams that are quiet again.
  await sleep(100);
  return Math.max(last - answeredAt, 0);
}
