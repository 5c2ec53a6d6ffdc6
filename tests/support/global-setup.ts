/** Once a run: the engines, and a migrated database that each test file gets a copy of. */

import postgres from "postgres";
import type { TestProject } from "vitest/node";
import { migrate } from "../../src/db/migrate.ts";
import { startTestPostgres, startTestRedis } from "./engines.ts";

declare module "vitest" {
  export interface ProvidedContext {
    adminUrl: string;
    redisUrl: string;
    template: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const database = await startTestPostgres();
  const redis = await startTestRedis();
  const template = `session_template_${process.pid}`;
  const admin = postgres(database.url, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database ${template} encoding 'UTF8' template template0`);
  const url = new URL(database.url);
  url.pathname = template;
  await migrate(url.href);
  project.provide("adminUrl", database.url);
  project.provide("redisUrl", redis.url);
  project.provide("template", template);
  return async () => {
    await admin.unsafe(`drop database if exists ${template} with (force)`);
    await admin.end();
    await Promise.all([database.stop(), redis.stop()]);
  };
}
