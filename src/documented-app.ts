/** The app without its engines, for whoever wants its OpenAPI file and nothing else. */

import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import { buildApp } from "./app.ts";
import { readConfig } from "./config.ts";
import { Feed } from "./events/feed.ts";
import { openMetrics } from "./metrics.ts";

/** Builds an app that only describes itself; it is not to be asked for anything that needs the database. */
export async function documentedApp(): Promise<FastifyInstance> {
  const never = () => Promise.reject(new Error("this app only describes itself"));
  return buildApp({
    config: readConfig({}),
    log: pino({ level: "silent" }),
    sessions: {
      create: never,
      createBatch: never,
      read: never,
      readEvenDeleted: never,
      readByExternalId: never,
      readContext: never,
      update: never,
      delete: never,
      undelete: never,
      report: never,
      list: never,
      find: never,
      count: never,
      facets: never,
      diagnose: never,
      metrics: never,
      contextUsage: never,
      figures: never,
      prune: never,
      claim: never,
      lookForClaimable: never,
      changeLease: never,
      heartbeat: never,
      pauseAll: never,
      saveCheckpoint: never,
      restoreCheckpoint: never,
      readCheckpoint: never,
      listCheckpoints: never,
      deleteCheckpoint: never,
      dryRunBulk: never,
      startBulk: never,
      readBulkJob: never,
      listBulkJobs: never,
      cancelBulkJob: never,
      listBulkResults: never,
    },
    idempotency: { repeatably: never },
    feed: new Feed({ database: { query: never, transaction: never, close: never }, onError: () => {} }),
    closing: new AbortController().signal,
    history: { ofAll: never, ofSession: never },
    metrics: openMetrics(),
    readMetrics: never,
    changed: () => {},
    onTransition: () => {},
    defaultTimers: {},
    purgeRequested: () => {},
    bulkRequested: () => {},
    askHealth: never,
    lastHealth: () => ({ status: "ok", database: "up", redis: "up" }),
    isReady: never,
    isStopping: () => false,
  });
}
