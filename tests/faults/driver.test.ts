import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, it } from "vitest";
import { rounds } from "../support/faults.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { until } from "../support/until.ts";

/*
 * The driver, with patches/postgres+3.4.9.patch. As it is published, a restart at the wrong moment ends the process by a
 * TypeError that nobody can catch: a write to a socket that is gone. vitest fails a run that meets such an error.
 */

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(10, 3);

it(`PostgreSQL restarted under pipelined statements and transactions, ${times} times: the process lives, and statements are answered again`, async () => {
  const server = await startPostgresServer();
  undo.push(() => server[Symbol.asyncDispose]());
  const sql = postgres(server.url, { max: 10, backoff: () => 0.05, onnotice: () => {} });
  undo.push(() => sql.end({ timeout: 0 }));
  let answered = 0;
  let stopping = false;
  undo.push(() => {
    stopping = true;
  });
  const client = async (turn: number) => {
    while (!stopping) {
      const work = turn % 4 === 0 ? sql.begin((holder) => [holder`select ${turn}::int`]) : sql`select ${turn}::int`;
      await work.then(
        () => answered++,
        () => sleep(1),
      );
    }
  };
  for (let turn = 0; turn < 64; turn++) void client(turn);
  for (let time = 0; time <= times; time++) {
    const before = answered;
    await until(() => answered > before + 1_000, "statements to be answered", { withinMs: 15_000 });
    if (time === times) break;
    await server.stop(time % 2 === 0 ? "immediate" : "fast");
    await server.start();
  }
});
