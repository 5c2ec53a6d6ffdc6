/**
 * A deadline that no sweeper looks for would never come: whatever is asked of sessions, in whatever order, the time at
 * which they are looked at next is never later than their first deadline.
 */

import fc from "fast-check";
import { afterAll, beforeAll, expect, it } from "vitest";
import { phases } from "../../src/sessions/lifecycle.ts";
import { timers } from "../../src/sessions/timers.ts";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  // Only requests change anything here.
  service = await startTestService({ SWEEP_INTERVAL_MS: "60000" });
});
afterAll(() => service.stop());

const seconds = fc.constantFrom(0, 1, 30, 600, 86_400, null);
const time = fc.constantFrom("2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z", null);

const settings = fc.record(
  {
    timeout_seconds: seconds,
    waiting_timeout_seconds: seconds,
    idle_timeout_seconds: seconds,
    pending_timeout_seconds: seconds,
    expires_at: time,
    scheduled_at: time,
    auto_recover: fc.boolean(),
    legal_hold: fc.boolean(),
  },
  { requiredKeys: [] },
);

const leaseSeconds = fc.constantFrom(1, 30, 3_600);
const worker = fc.constantFrom("worker-1", "worker-2");

/** A request to a session: its method, the end of its path, its body; `token` puts in the current token of the lease. */
interface Step {
  readonly method: string;
  readonly path: string;
  readonly body: object;
  readonly token: boolean;
}

const request = (method: string, path: fc.Arbitrary<string>, body: fc.Arbitrary<object>): fc.Arbitrary<Step> =>
  fc.record({ method: fc.constant(method), path, body, token: fc.boolean() });

const verbs = ["start", "pause", "resume", "stop", "complete", "fail", "crash", "recover", "restart", "request-exit"];

const step = fc.oneof(
  { weight: 4, arbitrary: request("PATCH", fc.constant(""), settings) },
  {
    weight: 4,
    arbitrary: request(
      "PATCH",
      fc.constant(""),
      fc.tuple(settings, fc.constantFrom(...phases)).map(([fields, phase]) => ({ ...fields, phase })),
    ),
  },
  { weight: 4, arbitrary: request("POST", fc.constantFrom(...verbs.map((verb) => `/${verb}`)), fc.constant({})) },
  { weight: 2, arbitrary: request("POST", fc.constant("/events"), fc.constant({ event_type: "step" })) },
  { weight: 1, arbitrary: request("PATCH", fc.constant(""), fc.constant({ checkpoint: { n: 1 } })) },
  {
    weight: 3,
    arbitrary: request(
      "POST",
      fc.constant("/lease"),
      fc.record({
        action: fc.constantFrom("take", "renew", "release", "hand_over"),
        worker_id: worker,
        to_worker_id: worker,
        lease_seconds: leaseSeconds,
      }),
    ),
  },
  {
    weight: 2,
    arbitrary: request("POST", fc.constant("/heartbeat"), fc.record({ lease_seconds: leaseSeconds })),
  },
);

const deletion = request("DELETE", fc.constant(""), fc.constant({}));
const undeletion = request("POST", fc.constant("/undelete"), fc.constant({}));

const claim = fc.record({ worker_id: worker, lease_seconds: leaseSeconds });

async function take({ method, path, body, token }: Step, id: string): Promise<number> {
  const [row] = await service.database.sql<{ token: number }[]>`
    select lease_token::int as token from sessions where id = ${id}`;
  const named = token && row !== undefined && row.token > 0 ? { "lease-token": String(row.token) } : undefined;
  const { status } = await service.request(method, `/sessions/${id}${path}`, body, named);
  return status;
}

const deadlines = timers("'-infinity'::timestamptz").map(({ deadline }) => deadline);

/** Sessions whose first deadline comes before anybody looks. */
const forgotten = () =>
  service.database.sql.unsafe(`
    select phase, next_check_at, first from (
      select s.*, least(${deadlines.join(", ")}) as first from sessions s where deleted_at is null
    ) timed
    where first < coalesce(next_check_at, 'infinity')`);

it("nobody is forgotten", async () => {
  let done = 0;
  const run = async (beginning: object, phase: string, steps: readonly (Step | { worker_id: string })[]) => {
    await service.database.sql`delete from sessions`;
    const id = await service.create({ ...beginning, phase });
    expect(await forgotten(), `created ${phase} with ${JSON.stringify(beginning)}`).toEqual([]);
    for (const one of steps) {
      const status =
        "worker_id" in one ? (await service.request("POST", "/sessions/claim", one)).status : await take(one, id);
      expect([200, 201, 204, 404, 409, 422, 423]).toContain(status);
      if (status < 300) done++;
      expect(await forgotten(), JSON.stringify(one)).toEqual([]);
    }
  };
  const initial = fc.constantFrom("pending", "starting", "running", "ready");
  const steps = fc.array(
    fc.oneof(
      { weight: 8, arbitrary: step },
      { weight: 1, arbitrary: deletion },
      { weight: 2, arbitrary: undeletion },
      { weight: 1, arbitrary: claim },
    ),
    {
      minLength: 5,
      maxLength: 25,
    },
  );
  await fc.assert(fc.asyncProperty(settings, initial, steps, run), { numRuns: 40 });
  expect(done).toBeGreaterThan(100);
}, 60_000);
