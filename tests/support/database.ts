/** A database of the test file's own: a copy of the migrated template, dropped at the end. */

import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";

export interface TestDatabase {
  readonly url: string;
  /** For looking inside; drop() closes it. */
  readonly sql: postgres.Sql;
  drop(): Promise<void>;
}

/** @param empty true: without tables */
export async function createDatabase({ empty = false } = {}): Promise<TestDatabase> {
  const admin = postgres(inject("adminUrl"), { max: 1, onnotice: () => {} });
  const name = `session_test_${randomBytes(6).toString("hex")}`;
  const template = empty ? "template0" : inject("template");
  await admin.unsafe(`create database ${name} encoding 'UTF8' template ${template} strategy file_copy`);
  const url = new URL(inject("adminUrl"));
  url.pathname = name;
  const sql = postgres(url.href, { max: 2, onnotice: () => {} });
  return {
    url: url.href,
    sql,
    async drop() {
      await sql.end({ timeout: 1 });
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.end();
    },
  };
}
