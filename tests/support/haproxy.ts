/**
 * A load balancer in front of replicas, as one has it in production: HAProxy, which asks each replica whether it is
 * ready and sends it nothing once it is not. It mends nothing: what a replica refuses or breaks off, the client sees.
 *
 * nginx would not do: without a paid module it never asks for readiness, it only tries another replica after a failure.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { quietPort } from "./process.ts";
import { until } from "./until.ts";

export interface Balancer extends AsyncDisposable {
  /** Where clients go. */
  readonly url: string;
  /** What it counted of a replica, by the replica's number. */
  replica(number: number): Promise<ReplicaCounts>;
  /** Waits until it sends requests to these replicas, and to no others. */
  sendsTo(...numbers: readonly number[]): Promise<void>;
  /** What it said of the replicas' coming and going, and why. */
  log(): string;
}

export interface ReplicaCounts {
  readonly isUp: boolean;
  /** Requests that were passed on to it. */
  readonly requests: number;
  /** Requests that could not be, answers that broke off, and answers of 5xx. */
  readonly failures: number;
}

/** Debian keeps it where only root looks. */
const haproxy = ["haproxy", "/usr/sbin/haproxy"].find((name) => spawnSync(name, ["-v"]).status === 0);

export const hasHaproxy = haproxy !== undefined;

/** How often each replica is asked whether it is ready: well below the service's default STOP_DELAY_MS of 500. */
const checkEveryMs = 100;

function configuration(port: number, statsPort: number, replicas: readonly number[]): string {
  const server = (replica: number, at: number) => `  server replica${at} 127.0.0.1:${replica}`;
  return `
global
  maxconn 4096
defaults
  mode http
  # Nothing is tried again, here or on another replica.
  retries 0
  retry-on none
  option http-keep-alive
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  # On a busy machine an answer may be late; a replica that stops says so itself.
  timeout check 10s
frontend clients
  bind 127.0.0.1:${port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /health/ready
  http-check expect status 200
  default-server check inter ${checkEveryMs}ms fall 1 rise 1
${replicas.map(server).join("\n")}
listen counts
  bind 127.0.0.1:${statsPort}
  stats enable
  stats uri /
`;
}

/** Starts it before replicas on these ports, which need not be there yet. */
export async function startHaproxy(replicas: readonly number[]): Promise<Balancer> {
  const folder = mkdtempSync(join(tmpdir(), "session-haproxy-"));
  const [port, statsPort] = [await quietPort(), await quietPort()];
  const file = join(folder, "haproxy.cfg");
  writeFileSync(file, configuration(port, statsPort, replicas));
  const child = spawn(haproxy ?? "haproxy", ["-db", "-f", file], { stdio: ["ignore", "pipe", "pipe"] });
  const output = collect(child);
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async () => {
    child.kill("SIGKILL");
    await gone;
    process.off("exit", killAtExit);
    rmSync(folder, { recursive: true, force: true });
  };
  const counts = () => countsOf(`http://127.0.0.1:${statsPort}/;csv`);
  const replica = async (number: number) => {
    const count = (await counts()).get(`replica${number}`);
    if (count === undefined) throw new Error(`HAProxy knows no replica ${number}`);
    return count;
  };
  const sendsTo = (...numbers: readonly number[]) =>
    until(
      async () => {
        const states = await Promise.all(replicas.map(async (_, at) => (await replica(at)).isUp));
        return states.every((isUp, at) => isUp === numbers.includes(at));
      },
      `HAProxy to send to ${numbers.join(" and ")} alone`,
      { everyMs: 20 },
    );
  await until(
    () =>
      child.exitCode !== null ||
      counts().then(
        () => true,
        () => false,
      ),
    "HAProxy to listen",
  );
  if (child.exitCode !== null) {
    await stop();
    throw new Error(`HAProxy did not start:\n${output()}`);
  }
  return { url: `http://127.0.0.1:${port}`, replica, sendsTo, log: output, [Symbol.asyncDispose]: stop };
}

/** HAProxy's own counts, by the name of the server. */
async function countsOf(url: string): Promise<Map<string, ReplicaCounts>> {
  const answer = await fetch(url);
  const [heading = "", ...lines] = (await answer.text()).replace(/^# /, "").trim().split("\n");
  const names = heading.split(",");
  return new Map(
    lines.map((line) => {
      const cells = line.split(",");
      const cell = (name: string) => cells[names.indexOf(name)] ?? "";
      const number = (name: string) => Number(cell(name));
      const count: ReplicaCounts = {
        isUp: cell("status").startsWith("UP"),
        requests: number("stot"),
        failures: number("econ") + number("eresp") + number("srv_abrt") + number("hrsp_5xx"),
      };
      return [cell("svname"), count];
    }),
  );
}

function collect(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-10_000);
    });
  }
  return () => text;
}
