/** A table of sessions to measure on, in a database of its own. */

import postgres from "postgres";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { migrate } from "../../src/db/migrate.ts";

export interface Table extends AsyncDisposable {
  readonly rows: number;
  /** The service's own pool. */
  readonly database: Database;
  readonly sql: postgres.Sql;
}

export interface TableOptions {
  readonly name: string;
  readonly rows: number;
  readonly poolSize: number;
  /** Inserts the rows. */
  readonly fill: (sql: postgres.Sql) => Promise<unknown>;
}

/** Makes it, filled and vacuumed, with nothing left to write to disk. */
export async function openTable(serverUrl: string, { name, rows, poolSize, fill }: TableOptions): Promise<Table> {
  const admin = postgres(serverUrl, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database ${name}_${rows} encoding 'UTF8' template template0`);
  await admin.end();
  const url = new URL(serverUrl);
  url.pathname = `${name}_${rows}`;
  await migrate(url.href);
  const sql = postgres(url.href, { max: 1, onnotice: () => {} });
  await fill(sql);
  await sql.unsafe("vacuum (analyze) sessions");
  await sql.unsafe("checkpoint");
  const database = openDatabase({ url: url.href, poolSize, prepare: true });
  return {
    rows,
    database,
    sql,
    async [Symbol.asyncDispose]() {
      await database.close();
      await sql.end();
    },
  };
}
