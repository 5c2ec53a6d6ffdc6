/** The composition root: opens PostgreSQL and Redis, or starts the embedded ones, and closes all in reverse. */

import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "./config.ts";
import { type Database, openDatabase } from "./db/client.ts";
import { warnOfCompilation } from "./db/jit.ts";
import { isMigrated, migrate } from "./db/migrate.ts";
import { type Broker, connectBroker } from "./events/broker.ts";
import { changesStream } from "./events/envelope.ts";
import { Feed } from "./events/feed.ts";
import { type Relay, startRelay } from "./events/relay.ts";
import { openReadings } from "./http/metrics-readings.ts";
import type { Health } from "./http/schemas/health.ts";
import { startAnalysis } from "./jobs/analyze-tables.ts";
import { startExpiry } from "./jobs/expire-idempotency-keys.ts";
import type { Loop } from "./jobs/loop.ts";
import { startPurge } from "./jobs/purge-sessions.ts";
import { startCheckpointRetention } from "./jobs/retain-checkpoints.ts";
import { startDeletedRetention } from "./jobs/retain-deleted.ts";
import { startRetention } from "./jobs/retain-events.ts";
import { startBulkJobs } from "./jobs/run-bulk-jobs.ts";
import { startSweeping } from "./jobs/sweep-sessions.ts";
import type { Readings, Sweep } from "./metrics.ts";
import { keepRules } from "./sessions/checkpoint-retention.ts";
import type { Transition } from "./sessions/transition-log.ts";

export interface Runtime {
  readonly database: Database;
  readonly feed: Feed;
  readonly relay: Relay;
  /** Removes what a hard deletion asked for. */
  readonly purge: Loop;
  /** Does what was asked of many sessions at once. */
  readonly bulk: Loop;
  /** With the password, for a person who wants to look inside; only of an embedded database. */
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly embedded: { readonly database: boolean; readonly redis: boolean };
  askHealth(): Promise<Health>;
  lastHealth(): Health;
  readMetrics(): Promise<Readings>;
  isMigrated(): Promise<boolean>;
  close(): Promise<void>;
}

export interface RuntimeOptions {
  readonly config: Config;
  readonly log: Logger;
  /** A line that a person should read. */
  readonly notice: (line: string) => void;
  /** Called after a timer took a session from one phase to another. */
  readonly onTransition: (transition: Transition) => void;
  /** Called after all that was due has been worked off. */
  readonly onSweep: (sweep: Sweep) => void;
  /** An embedded engine died: the service can't go on. */
  readonly onFatal: (message: string) => void;
}

interface Engine {
  readonly url: string;
  stop(): Promise<void>;
}

/** Opens everything. An external database or Redis that is away is waited for; the service then says 503, or degraded. */
export async function openRuntime(options: RuntimeOptions): Promise<Runtime> {
  const { config, log } = options;
  const opened: (() => Promise<void>)[] = [];
  const closeAll = async () => {
    for (const close of opened.splice(0).reverse()) await close();
  };
  try {
    const [postgres, valkey] = await startEngines(options, opened);
    const databaseUrl = postgres?.url ?? config.DATABASE_URL ?? "";
    const redisUrl = valkey?.url ?? config.REDIS_URL ?? "";
    if (config.MIGRATE === "on") {
      // An embedded one is there; when it has died meanwhile there is nothing to wait for.
      await (postgres === undefined ? migrateWhenThere(databaseUrl, options) : migrate(databaseUrl));
    }
    const prepare = config.DATABASE_PREPARE === "on";
    const database = openDatabase({ url: databaseUrl, poolSize: config.DATABASE_POOL_SIZE, prepare });
    opened.push(() => database.close());
    void warnOfCompilation(database, log);
    // Of its own, so that a busy pool is not taken for a database that is gone.
    const probe = openDatabase({ url: databaseUrl, poolSize: 1, prepare, deadlineMs: 1_000 });
    opened.push(() => probe.close());
    // Connects when /metrics is first asked for, or a table has grown. Counting a hundred million sessions takes half a
    // minute.
    const counting = openDatabase({ url: databaseUrl, poolSize: 1, prepare, deadlineMs: 30_000 });
    opened.push(() => counting.close(0));
    const broker = connectBroker({
      url: redisUrl,
      stream: changesStream,
      streamLength: config.EVENT_STREAM_MAXLEN,
      onError: (error) => log.warn({ err: error }, "Redis is away: events wait to be published, requests go on"),
    });
    opened.push(() => broker.close());
    const feed = new Feed({ database, onError: (error) => log.debug({ err: error }, "the feed waits") });
    opened.push(async () => feed.close());
    const relay = startRelay({
      database,
      broker,
      feed,
      takesTurns: config.RELAY === "on",
      onError: (error) => log.warn({ err: error }, "events wait to be published"),
    });
    opened.push(() => relay.stop(stopPublishingMs));
    const purge = startPurge({
      database,
      appended: () => relay.wake(),
      onError: (error) => log.warn({ err: error }, "sessions wait to be removed"),
    });
    opened.push(() => purge.stop());
    const bulk = startBulk(options, { database, relay, purge });
    opened.push(() => bulk.stop());
    const sweeping = startSweeping({
      database,
      everyMs: config.SWEEP_INTERVAL_MS,
      finalCheckpoints: config.FINAL_CHECKPOINTS,
      onTransition: options.onTransition,
      appended: () => relay.wake(),
      onEnd: options.onSweep,
      onError: (error) => log.warn({ err: error }, "sessions whose timers are due wait"),
    });
    opened.push(() => sweeping.stop());
    const upkeep = startUpkeep(options, { database, patient: counting, purge });
    opened.push(async () => {
      // A table that is being analyzed is not waited for.
      await Promise.all([counting.close(0), ...upkeep.map((job) => job.stop())]);
    });
    return {
      database,
      feed,
      relay,
      purge,
      bulk,
      databaseUrl,
      redisUrl,
      embedded: { database: postgres !== undefined, redis: valkey !== undefined },
      ...healthOf(probe, broker),
      readMetrics: openReadings({
        pool: database,
        probe,
        counting,
        onError: (error) => log.debug({ err: error }, "figures are left out"),
      }),
      isMigrated: () => isMigrated(probe).catch(() => false),
      close: closeAll,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function startBulk(
  { config, log, onTransition }: RuntimeOptions,
  { database, relay, purge }: Pick<Runtime, "database" | "relay" | "purge">,
): Loop {
  return startBulkJobs({
    database,
    finalCheckpoints: config.FINAL_CHECKPOINTS,
    onTransition,
    appended: () => relay.wake(),
    purgeRequested: () => purge.wake(),
    onError: (error, jobId) => log.warn({ err: error, job_id: jobId }, "a bulk job waits, or has failed"),
  });
}

/** Starts what keeps the tables small and their plans good, and makes no event. */
function startUpkeep(
  { config, log }: RuntimeOptions,
  { database, patient, purge }: { readonly database: Database; readonly patient: Database; readonly purge: Loop },
): Loop[] {
  const jobs = [
    startAnalysis({
      database,
      patient,
      onError: (error) => log.warn({ err: error }, "requests may be slow: tables that have grown wait to be analyzed"),
    }),
    startExpiry({
      database,
      ttlHours: config.IDEMPOTENCY_TTL_HOURS,
      onError: (error) =>
        log.warn({ err: error }, "old answers to requests with an Idempotency-Key wait to be removed"),
    }),
    startCheckpointRetention({
      database,
      rules: keepRules(config),
      onError: (error) => log.warn({ err: error }, "old checkpoints wait to be removed"),
    }),
  ];
  if (config.EVENT_RETENTION_DAYS > 0) {
    jobs.push(
      startRetention({
        database,
        days: config.EVENT_RETENTION_DAYS,
        onError: (error) => log.warn({ err: error }, "old events wait to be removed"),
      }),
    );
  }
  if (config.RETENTION_DAYS_DELETED > 0) {
    jobs.push(
      startDeletedRetention({
        database,
        days: config.RETENTION_DAYS_DELETED,
        purgeRequested: () => purge.wake(),
        onError: (error) => log.warn({ err: error }, "sessions that were deleted long ago wait to be removed"),
      }),
    );
  }
  return jobs;
}

/** What is committed at the end is published by then, or at the next start. */
const stopPublishingMs = 1_500;

/** Only what is needed is even loaded. */
async function startEngines(
  { config, notice, onFatal }: RuntimeOptions,
  opened: (() => Promise<void>)[],
): Promise<[Engine | undefined, Engine | undefined]> {
  const started = await Promise.allSettled([
    config.DATABASE_URL === undefined ? startPostgres(config, notice, onFatal) : undefined,
    config.REDIS_URL === undefined ? startValkey(config, onFatal) : undefined,
  ]);
  for (const result of started) {
    if (result.status === "fulfilled" && result.value !== undefined) opened.push(result.value.stop);
  }
  for (const result of started) {
    if (result.status === "rejected") throw result.reason;
  }
  return started.map((result) => (result.status === "fulfilled" ? result.value : undefined)) as [Engine?, Engine?] as [
    Engine | undefined,
    Engine | undefined,
  ];
}

async function startPostgres(
  config: Config,
  notice: (line: string) => void,
  onExit: (message: string) => void,
): Promise<Engine> {
  const { startEmbeddedPostgres } = await import("./embedded/postgres.ts");
  const postgres = await startEmbeddedPostgres({ dataDir: `${config.DATA_DIR}/postgres`, notice, onExit });
  return { url: postgres.url, stop: () => postgres.stop() };
}

async function startValkey(config: Config, onFatal: (message: string) => void): Promise<Engine> {
  const { startEmbeddedValkey } = await import("./embedded/valkey.ts");
  const valkey = await startEmbeddedValkey({ port: config.REDIS_PORT, onFatal });
  return { url: valkey.url, stop: () => valkey.stop() };
}

/** Waits for a database that is away or still starting; anything else is for a person to mend. */
async function migrateWhenThere(url: string, { log, notice }: RuntimeOptions): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await migrate(url);
      return;
    } catch (error) {
      if (!isPassing(error)) throw error;
      if (tries === 0) {
        notice(`Waiting for the database at ${new URL(url).host} …`);
        log.warn({ err: error }, "waiting for the database");
      }
      await sleep(500);
    }
  }
}

function isPassing(error: unknown): boolean {
  const code = typeof error === "object" && error !== null && "code" in error ? String(error.code) : "";
  return /^(ECONN|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOTFOUND|EPIPE|CONNECT|57P|53300|08)/.test(code);
}

function healthOf(database: Database, broker: Broker): Pick<Runtime, "askHealth" | "lastHealth"> {
  let last: Health = { status: "ok", database: "up", redis: "up" };
  const databaseIsUp = async () => {
    try {
      await database.query("select 1");
      return true;
    } catch {
      return false;
    }
  };
  return {
    async askHealth() {
      const [databaseUp, redisUp] = await Promise.all([databaseIsUp(), broker.isUp()]);
      last = {
        status: databaseUp ? (redisUp ? "ok" : "degraded") : "unavailable",
        database: databaseUp ? "up" : "down",
        redis: redisUp ? "up" : "down",
      };
      return last;
    },
    lastHealth: () => last,
  };
}
