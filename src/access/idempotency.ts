/**
 * Requests that may come twice and shall be done once: the answer is kept in the transaction of what was done.
 *
 *   twins in this process ──► one goes, the others wait in memory for its answer
 *   twins of other processes ──► one has the advisory lock, the others ask again, and hold no connection meanwhile
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Database, Queries } from "../db/client.ts";
import { errors } from "../errors.ts";

/** What tells a request from every other, and from itself come again. */
export interface RepeatableRequest {
  readonly namespace: string;
  readonly method: string;
  readonly path: string;
  /** The client's: the same for the same request. */
  readonly key: string;
  /** Differs when the request does. */
  readonly fingerprint: string;
}

/** An answer, as it is kept. */
export interface StoredAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** An answer, and whether it had been given before: then nothing was done. */
export type Repeated<Answer> =
  | { readonly replayed: false; readonly answer: Answer }
  | { readonly replayed: true; readonly answer: StoredAnswer };

export interface Idempotency {
  /**
   * Runs a request once, in a transaction that also keeps its answer; gives the kept one when it was run before.
   *
   * @param run runs the commands in the transaction it is given, and may be run again after that was rolled back; what
   * it throws undoes the transaction, and is kept nowhere
   * @throws {ServiceError} idempotency_key_reused when another request was answered under the key,
   * idempotency_key_in_use when the first request has not ended after 5 s
   */
  repeatably<Answer extends StoredAnswer>(
    request: RepeatableRequest,
    run: (transaction: Queries) => Promise<Answer>,
  ): Promise<Repeated<Answer>>;
}

/** How long a twin waits for the first. */
const patienceMs = 5_000;

/** Between two looks at a request that runs in another process, at least: a create takes some 10 ms. */
const lookAgainMs = 20;

/** @param ttlHours how long an answer is kept */
export function openIdempotency(database: Database, { ttlHours }: { readonly ttlHours: number }): Idempotency {
  const underWay = new Map<string, Promise<Kept | undefined>>();
  return {
    async repeatably(request, run) {
      const end = performance.now() + patienceMs;
      const id = JSON.stringify([request.namespace, request.method, request.path, request.key]);
      for (;;) {
        const twin = underWay.get(id);
        if (twin === undefined) break;
        const kept = await inTime(twin, end);
        if (kept !== undefined) return replay(kept, request);
      }
      const running = runOnce({ database, request, ttlHours, end }, run);
      underWay.set(
        id,
        running.then(
          ({ answer: { status, headers, body } }) => ({ status, headers, body, fingerprint: request.fingerprint }),
          // Nothing was done, or nobody knows: the next of the twins finds out.
          () => undefined,
        ),
      );
      try {
        return await running;
      } finally {
        underWay.delete(id);
      }
    },
  };
}

interface Kept extends StoredAnswer {
  readonly fingerprint: string;
}

function replay({ fingerprint, ...answer }: Kept, request: RepeatableRequest): Repeated<never> {
  if (fingerprint !== request.fingerprint) throw errors.idempotencyKeyReused();
  return { replayed: true, answer };
}

/** @throws {ServiceError} idempotency_key_in_use */
async function inTime<T>(twin: Promise<T>, end: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(errors.idempotencyKeyInUse()), end - performance.now());
  });
  try {
    return await Promise.race([twin, late]);
  } finally {
    clearTimeout(timer);
  }
}

interface Attempt {
  readonly database: Database;
  readonly request: RepeatableRequest;
  readonly ttlHours: number;
  /** Until when it waits for a twin in another process. */
  readonly end: number;
}

/** Goes as soon as no other process runs it. */
async function runOnce<Answer extends StoredAnswer>(
  attempt: Attempt,
  run: (transaction: Queries) => Promise<Answer>,
): Promise<Repeated<Answer>> {
  for (;;) {
    const ended = await attempt.database.transaction((tx) => lookAndRun(tx, attempt, run)).catch(unlessSurpassed);
    if (ended !== undefined) return ended;
    if (performance.now() > attempt.end) throw errors.idempotencyKeyInUse();
    await sleep(lookAgainMs * (1 + 1.5 * Math.random()));
  }
}

/** A twin was committed between the look and the lock: what this one did is rolled back. */
class Surpassed extends Error {}

function unlessSurpassed(error: unknown): undefined {
  if (!(error instanceof Surpassed)) throw error;
}

const isYoung = (createdAt: string) => `${createdAt} > now() - make_interval(hours => $5::text::int)`;

/*
 * Tried and looked up in one statement, of which the look is the older: an answer that was committed between the two is
 * not seen, but is met when this one's is to be kept. The lock goes with the transaction.
 */
const lookStatement = `
  select pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', $1::text, $2::text, $3::text, $4::text), 0)) as locked,
    k.fingerprint, k.status, k.headers, k.body
  from (select 1) one
  left join idempotency_keys k
    on k.namespace = $1 and k.method = $2 and k.path = $3 and k.key = $4 and ${isYoung("k.created_at")}`;

const keepStatement = `
  insert into idempotency_keys as k (namespace, method, path, key, fingerprint, status, headers, body, created_at)
  values ($1, $2, $3, $4, $6, $7::text::smallint, $8, $9, now())
  on conflict (namespace, method, path, key) do update set
    fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers, body = excluded.body,
    created_at = excluded.created_at
  where not ${isYoung("k.created_at")}
  returning 1`;

type Found =
  | { readonly locked: boolean; readonly fingerprint: null }
  | {
      readonly locked: boolean;
      readonly fingerprint: string;
      readonly status: number;
      readonly headers: string;
      readonly body: string;
    };

/** @returns undefined while a twin runs in another process */
async function lookAndRun<Answer extends StoredAnswer>(
  transaction: Queries,
  { request, ttlHours }: Attempt,
  run: (transaction: Queries) => Promise<Answer>,
): Promise<Repeated<Answer> | undefined> {
  const { namespace, method, path, key, fingerprint } = request;
  const names = [namespace, method, path, key, ttlHours];
  const [found] = await transaction.query<Found>(lookStatement, names);
  if (found !== undefined && found.fingerprint !== null) {
    const { status, body } = found;
    return replay({ status, headers: JSON.parse(found.headers), body, fingerprint: found.fingerprint }, request);
  }
  if (found?.locked !== true) return undefined;
  const answer = await run(transaction);
  const { status, headers, body } = answer;
  if (status < 200 || status > 299) throw new Error(`an answer of ${status} must be thrown: it would be kept`);
  const values = [...names, fingerprint, status, JSON.stringify(headers), body];
  const kept = await transaction.query(keepStatement, values);
  if (kept.length === 0) throw new Surpassed();
  return { replayed: false, answer };
}

/** A batch is short: what holds a row that shall be removed waits for a moment only. */
const expiredAtOnce = 1_000;

const expireStatement = `
  with expired as (
    select ctid from idempotency_keys
    where created_at <= now() - make_interval(hours => $1::text::int)
    order by created_at
    limit ${expiredAtOnce}
    for update skip locked
  ), removed as (
    delete from idempotency_keys where ctid in (select ctid from expired) returning 1
  )
  select count(*)::int as count from removed`;

/**
 * Removes a batch of the oldest answers that are past their time. On several replicas at once, each removes others.
 *
 * @returns whether there may be more
 */
export async function expireKeys(database: Queries, { ttlHours }: { readonly ttlHours: number }): Promise<boolean> {
  const [removed] = await database.query<{ count: number }>(expireStatement, [ttlHours]);
  return removed?.count === expiredAtOnce;
}
