/** The app without its engines, for whoever wants its OpenAPI file and nothing else. */

import type { FastifyInstance } from "fastify";
import { pino } from "pino";
import { buildApp } from "./app.ts";
import { readConfig } from "./config.ts";

/** Builds an app that only describes itself; it is not to be asked for anything that needs the database. */
export async function documentedApp(): Promise<FastifyInstance> {
  const never = () => Promise.reject(new Error("this app only describes itself"));
  return buildApp({
    config: readConfig({}),
    log: pino({ level: "silent" }),
    sessions: { create: never, read: never, update: never, list: never },
    changed: () => {},
    askHealth: never,
    lastHealth: () => ({ status: "ok", database: "up", redis: "up" }),
    isReady: never,
    isStopping: () => false,
  });
}
