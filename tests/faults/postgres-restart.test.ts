import { afterEach, expect, it } from "vitest";
import { rounds, short } from "../support/faults.ts";
import { type Outcome, startLoad } from "../support/load.ts";
import { startPostgresServer } from "../support/postgres-server.ts";
import { dataFolder, startServiceProcess } from "../support/process.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const times = rounds(10, 3);
const isOk = ({ status }: Outcome) => status === 200 || status === 201;

it(`PostgreSQL restarted under load, ${times} times: 503 until it is back, within 2 s all is well, nothing acknowledged is lost`, async () => {
  const postgres = await startPostgresServer();
  undo.push(() => postgres[Symbol.asyncDispose]());
  const folder = dataFolder();
  undo.push(() => folder[Symbol.dispose]());
  const service = await startServiceProcess({ settings: { DATABASE_URL: postgres.url, DATA_DIR: folder.path } });
  undo.push(() => service.stop());
  const load = startLoad({ url: service.url, clients: 32, restMs: 5 });
  undo.push(() => load.stop());

  /** When the database was there, and its return at least 2 s past. */
  const calm: { from: number; to: number }[] = [];
  let calmFrom: number | undefined = performance.now();
  for (let time = 1; time <= times; time++) {
    const before = load.acknowledged();
    await until(() => load.acknowledged() >= before + 300, "300 acknowledged changes");
    const stoppedAt = performance.now();
    if (calmFrom !== undefined) calm.push({ from: calmFrom, to: stoppedAt });
    calmFrom = undefined;
    await postgres.stop(time % 2 === 0 ? "immediate" : "fast");
    await until(
      () => load.outcomes.some(({ status, beganAt }) => status === 503 && beganAt > stoppedAt),
      "a request to be told that the database is away",
    );
    await postgres.start();
    const backAt = performance.now();
    await until(
      () => load.outcomes.some((outcome) => isOk(outcome) && outcome.beganAt > backAt) || service.hasExited(),
      "a request to be served again",
      { withinMs: 2_000 },
    );
    expect(service.hasExited(), `the service lives: ${service.stderr()}`).toBe(false);
    if (short && time < times) continue;
    // Long enough to see that nobody is refused any more.
    await until(() => performance.now() > backAt + 2_600, "the calm after the restart");
    calmFrom = backAt + 2_000;
  }
  await load.stop();
  if (calmFrom !== undefined) calm.push({ from: calmFrom, to: performance.now() });

  expect(load.wrong, "answers that are wrong, or neither 2xx nor 503").toEqual([]);
  expect(
    load.outcomes.filter(({ status }) => status === undefined),
    "broken connections",
  ).toEqual([]);
  const refused = load.outcomes.filter(({ status }) => status === 503);
  expect(refused.length).toBeGreaterThan(times);
  expect(
    refused.filter(({ retryAfter }) => !/^\d+$/.test(retryAfter ?? "")),
    "503 without Retry-After",
  ).toEqual([]);
  expect(Math.max(...load.outcomes.map(({ ms }) => ms)), "milliseconds to any answer").toBeLessThan(3_000);
  const inCalm = refused.filter(({ beganAt, ms }) => calm.some(({ from, to }) => beganAt > from && beganAt + ms < to));
  expect(inCalm, "refused more than 2 s after the database's return").toEqual([]);
  expect(await load.audit(postgres.url)).toEqual([]);
});
