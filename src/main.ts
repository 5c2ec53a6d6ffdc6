/** The process: config → listen → runtime → app, and back again on a signal. */

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { openIdempotency } from "./access/idempotency.ts";
import { buildApp } from "./app.ts";
import type { Config } from "./config.ts";
import { openHistory } from "./events/history.ts";
import { type HttpServer, listen } from "./http/server.ts";
import { openLog } from "./log.ts";
import { openMetrics } from "./metrics.ts";
import { openRuntime, type Runtime } from "./runtime.ts";
import type { Settings } from "./sessions/fields.ts";
import { openSessions } from "./sessions/sessions.ts";
import { logTransition, type Transition } from "./sessions/transition-log.ts";

export interface Service {
  readonly url: string;
  /** Settles when the service has stopped, with the exit code of the process. */
  readonly stopped: Promise<number>;
  /** Stops as on a signal: refuses new work, finishes what runs, publishes what is committed. */
  stop(options?: { readonly delayMs?: number }): void;
}

/** A request that runs is given this long before its connection is cut. */
const drainMs = 3_000;

/**
 * Starts the service and gives it back once it is ready.
 *
 * @param print where the lines go that a person reads
 * @throws ListenError, EmbeddedPostgresError, MigrationError: their messages say what to do
 */
export async function startService(config: Config, print: (line: string) => void): Promise<Service> {
  const log = openLog(config.LOG_LEVEL);
  const metrics = openMetrics();
  let exitCode = 0;
  let stopDelay: number | undefined;
  const stopping = new AbortController();
  const closing = new AbortController();
  const requestStop = (delayMs: number) => {
    stopDelay ??= delayMs;
    stopping.abort();
  };

  const onTransition = (transition: Transition) => {
    logTransition(log, transition);
    metrics.transitioned(transition.from, transition.session.phase);
  };

  const server = await listen(config.HOST, config.PORT);
  let runtime: Runtime;
  try {
    runtime = await openRuntime({
      config,
      log,
      notice: print,
      onTransition,
      onSweep: metrics.swept,
      onFatal(message) {
        log.fatal(message);
        exitCode = 1;
        requestStop(0);
      },
    });
  } catch (error) {
    await server.drain(0);
    throw error;
  }
  const app = await buildApp({
    config,
    log,
    sessions: openSessions(runtime.database, {
      coalesce: config.COALESCE === "on",
      finalCheckpoints: config.FINAL_CHECKPOINTS,
      onTransition,
    }),
    onTransition,
    defaultTimers: defaultTimers(config),
    idempotency: openIdempotency(runtime.database, { ttlHours: config.IDEMPOTENCY_TTL_HOURS }),
    history: openHistory(runtime.database, runtime.feed),
    metrics,
    readMetrics: runtime.readMetrics,
    changed: () => runtime.relay.wake(),
    purgeRequested: () => runtime.purge.wake(),
    bulkRequested: () => runtime.bulk.wake(),
    askHealth: runtime.askHealth,
    lastHealth: runtime.lastHealth,
    isReady: async () => stopDelay === undefined && (await runtime.isMigrated()),
    isStopping: () => stopDelay !== undefined,
    feed: runtime.feed,
    closing: closing.signal,
  });
  server.serve((request, response) => app.routing(request, response));
  for (const line of banner(config, server, runtime)) print(line);

  const stopRequested = stopping.signal.aborted ? Promise.resolve() : once(stopping.signal, "abort");
  const stopped = stopRequested.then(async () => {
    // Load balancers see that the service is not ready, and stop sending, before connections are refused.
    await sleep(stopDelay ?? 0);
    closing.abort();
    await server.drain(drainMs);
    await app.close();
    await runtime.close();
    return exitCode;
  });
  return {
    url: server.url,
    stopped,
    stop: ({ delayMs = 0 } = {}) => requestStop(delayMs),
  };
}

/** A default of 0 says nothing, so that a session that has none does not show one. */
function defaultTimers(config: Config): Settings {
  return {
    ...(config.DEFAULT_IDLE_TIMEOUT_SECONDS > 0 ? { idle_timeout_seconds: config.DEFAULT_IDLE_TIMEOUT_SECONDS } : {}),
    ...(config.DEFAULT_TIMEOUT_SECONDS > 0 ? { timeout_seconds: config.DEFAULT_TIMEOUT_SECONDS } : {}),
    ...(config.DEFAULT_PENDING_TIMEOUT_SECONDS > 0
      ? { pending_timeout_seconds: config.DEFAULT_PENDING_TIMEOUT_SECONDS }
      : {}),
  };
}

function banner(config: Config, server: HttpServer, runtime: Runtime): string[] {
  const redis = new URL(runtime.redisUrl);
  const lines = [
    `Session service  ${server.url}`,
    `Docs             ${server.url}/docs`,
    runtime.embedded.database
      ? `Database         psql ${runtime.databaseUrl}`
      : `Database         ${withoutPassword(runtime.databaseUrl)}`,
    `Events           redis-cli${redis.hostname === "127.0.0.1" ? "" : ` -h ${redis.hostname}`} -p ${redis.port || 6379} subscribe events:session`,
  ];
  if (config.API_KEYS.length === 0) lines.push("Open to everyone who can reach it: set API_KEYS to ask for a key.");
  return lines;
}

function withoutPassword(url: string): string {
  return url.replace(/^(\w+:\/\/[^:/@]*):[^@]*@/, "$1:…@");
}
