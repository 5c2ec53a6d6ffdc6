/** Brings the tables up to date, and tells whether they are. */

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate as applyMigrations } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { ServiceError } from "../service-error.ts";
import type { Database } from "./client.ts";

/** The checked-in migrations: `drizzle/` stands beside `src` and beside `dist`. */
const folder = fileURLToPath(new URL("../../drizzle", import.meta.url));

/** Any constant that no other user of the database is likely to lock. */
const lockKey = 7_306_011;

/** The database can't be used as it is; the message says what to do. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

/**
 * Applies the migrations that are missing, under a lock: any number of processes may start at once.
 *
 * The lock is held by a transaction and not by a session, for a pooler in transaction mode would leak the latter.
 *
 * @throws {MigrationError} when the database refuses, or is not UTF8; the driver's error when it can't be reached
 */
export async function migrate(url: string): Promise<void> {
  // Drizzle changes the parsers of the client it is given, so it gets one of its own.
  const client = postgres(url, { max: 2, onnotice: () => {}, prepare: false, connect_timeout: 5, backoff: () => 0.1 });
  try {
    const [encoding] = await client`show server_encoding`;
    if (encoding?.["server_encoding"] !== "UTF8") {
      throw new MigrationError(
        `The database's encoding is ${encoding?.["server_encoding"]}; sessions hold any Unicode text. ` +
          "Make one with: CREATE DATABASE sessions ENCODING 'UTF8' TEMPLATE template0",
      );
    }
    await client.begin(async (holder) => {
      await holder`select pg_advisory_xact_lock(${lockKey})`;
      await applyMigrations(drizzle(client), { migrationsFolder: folder });
    });
  } catch (error) {
    throw isForThePersonAtTheKeyboard(error) ? refusal(error) : error;
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** What PostgreSQL itself says, but that it is starting, stopping or full of connections: that passes. */
function isForThePersonAtTheKeyboard(error: unknown): error is postgres.PostgresError {
  return error instanceof postgres.PostgresError && !/^(57P|53300)/.test(error.code);
}

function refusal(error: postgres.PostgresError): MigrationError {
  return new MigrationError(
    `The database that DATABASE_URL names can't be used: ${error.message} (${error.code}). Check the URL, and that its ` +
      "user may connect and create tables.",
  );
}

/**
 * Whether the newest migration that this build knows has been applied to the database.
 *
 * @throws {ServiceError} database_unavailable
 */
export async function isMigrated(database: Database): Promise<boolean> {
  try {
    const newest = "select 1 from drizzle.__drizzle_migrations where created_at >= $1 limit 1";
    return (await database.query(newest, [newestMigration()])).length > 0;
  } catch (error) {
    if (error instanceof ServiceError && error.code === "schema_outdated") return false;
    throw error;
  }
}

function newestMigration(): number {
  const journal = JSON.parse(readFileSync(`${folder}/meta/_journal.json`, "utf8")) as { entries: { when: number }[] };
  return Math.max(...journal.entries.map((entry) => entry.when));
}
