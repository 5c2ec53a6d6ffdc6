/**
 * Random commands, to the service over HTTP and to a model of the design in step. MODEL_SEED repeats a run that failed,
 * MODEL_RUNS asks for more of them.
 */

import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  type Command,
  type DesignVerb,
  designTransitions,
  designVerbs,
  type Expected,
  LifecycleModel,
  type ModelEvent,
  type ModelSession,
  shownStatus,
  tokenOf,
} from "../support/lifecycle-model.ts";
import { type DesignField, designFields, designWords } from "../support/phases.ts";
import { type Answer, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService({ SWEEP_INTERVAL_MS: "50" });
});
afterAll(() => service.stop());

const at = fc.nat(2);
const token = fc.oneof(
  { weight: 4, arbitrary: fc.constant("current" as const) },
  { weight: 3, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constant("old" as const) },
);
const worker = fc.constantFrom("worker-1", "worker-2");
/** What is over is seldom left again: so most words and verbs are of those that lead elsewhere. */
const endings = ["completed", "failed", "crashed", "expired", "timed_out"];
const seldomAnEnd = <T>(all: readonly T[], entryOf: (one: T) => string): fc.Arbitrary<T> => {
  const isEnd = (one: T) => endings.includes(entryOf(one));
  return fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...all.filter((one) => !isEnd(one))) },
    { weight: 1, arbitrary: fc.constantFrom(...all.filter(isEnd)) },
  );
};
const verbs = Object.keys(designVerbs) as DesignVerb[];
const rarely = fc.integer({ min: 0, max: 9 }).map((drawn) => drawn === 9);

/** A word in one of the fields that take it, and whether it is asked of a version that is long gone. */
const patch = fc.constantFrom<DesignField[]>(...designFields).chain((field) =>
  fc.record({
    does: fc.constant("patch" as const),
    field: fc.constant(field),
    word: seldomAnEnd(designWords(field), ({ entry }) => entry).map(({ word }) => word),
    stale: rarely,
    at,
    token,
  }),
);

const create = fc.record({
  does: fc.constant("create" as const),
  phase: fc.constantFrom("pending", "starting", "running", "ready" as const),
  autoRecover: fc.boolean(),
  maxAttempts: fc.integer({ min: 1, max: 3 }),
});

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 12, arbitrary: patch },
  {
    weight: 12,
    arbitrary: fc.record({
      does: fc.constant("verb" as const),
      verb: seldomAnEnd(verbs, (verb) => designVerbs[verb].entry),
      force: fc.boolean(),
      autoResume: fc.boolean(),
      reason: fc.constantFrom(undefined, "as asked"),
      at,
      token,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      does: fc.constantFrom("count", "heartbeat", "report" as const),
      at,
      token,
    }),
  },
  {
    weight: 14,
    arbitrary: fc.record({
      does: fc.constant("lease" as const),
      action: fc.constantFrom("take", "take", "take", "take", "renew", "release", "hand_over" as const),
      worker,
      at,
      token,
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ does: fc.constantFrom("claim", "claim", "claim", "pause-all" as const), worker }),
  },
  { weight: 2, arbitrary: create },
  {
    weight: 2,
    arbitrary: fc.record({ does: fc.constantFrom("the back-off is over", "the lease is over" as const), at }),
  },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("delete" as const), at, token }) },
);

interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: object;
}

/** What a client sends for a command, to the session of that id, if it speaks of one. */
function requestOf(said: Command, id: string, agentId: string): Request {
  const own = (name: string) => `${name}-${agentId}`;
  const post = (path: string, body: object) => ({ method: "POST", path, body });
  switch (said.does) {
    case "create": {
      const { phase, autoRecover, maxAttempts } = said;
      return post("/sessions/", { agent_id: agentId, phase, auto_recover: autoRecover, max_attempts: maxAttempts });
    }
    case "patch":
      return { method: "PATCH", path: `/sessions/${id}`, body: { [said.field]: said.word } };
    case "verb":
      return post(`/sessions/${id}/${said.verb}`, {
        reason: said.reason ?? null,
        ...(said.verb === "recover" ? { force: said.force } : {}),
        ...(said.verb === "pause" ? { auto_resume: said.autoResume } : {}),
      });
    case "count":
      return { method: "PATCH", path: `/sessions/${id}`, body: { stats: { iterations: 1 } } };
    case "report":
      return post(`/sessions/${id}/events`, { event_type: "thinking", payload: {} });
    case "lease": {
      const { action } = said;
      if (action === "take") {
        return post(`/sessions/${id}/lease`, { action, worker_id: own(said.worker), lease_seconds: 3_600 });
      }
      const to = action === "hand_over" ? { to_worker_id: own(said.worker) } : {};
      return post(`/sessions/${id}/lease`, { action, ...to });
    }
    case "claim": {
      const wish = { worker_id: own(said.worker), lease_seconds: 3_600, filter: { agent_id: agentId } };
      return post("/sessions/claim", wish);
    }
    case "pause-all":
      return post(`/workers/${own(said.worker)}/pause-all`, {});
    case "delete":
      return { method: "DELETE", path: `/sessions/${id}` };
    default:
      return post(`/sessions/${id}/${said.does}`, {});
  }
}

/** What a command says beside its body, to the session as it is before. */
function headersOf(said: Command, about: ModelSession | undefined): Record<string, string> {
  const named = "token" in said && about !== undefined ? tokenOf(said.token, about) : undefined;
  return {
    ...(named === undefined ? {} : { "lease-token": String(named) }),
    ...(said.does === "patch" && said.stale ? { "if-match": '"1000000"' } : {}),
  };
}

/** As if time had passed, for which the test does not wait. */
const passing: Readonly<Record<string, (id: string) => Promise<void>>> = {
  async "the back-off is over"(id) {
    await service.database.sql`
      update sessions set claimable_at = clock_timestamp(), next_attempt_at = clock_timestamp() where id = ${id}`;
  },
  async "the lease is over"(id) {
    const { sql } = service.database;
    // However long it was for: a sweep that is late makes it last for so long again.
    await sql`
      update sessions set lease_seconds = 1, lease_expires_at = clock_timestamp(), next_check_at = clock_timestamp()
      where id = ${id}`;
    const isSwept = async () => (await sql`select from sessions where id = ${id} and lease_owner is null`).length > 0;
    await until(isSwept, "a sweeper to see that the lease is over", { everyMs: 5 });
  },
};

/** Every session of an agent with its events, as the database has them. */
function storedSessions(agentId: string) {
  return service.database.sql`
    select id, phase, status, version::int, attempt::int, lease_owner as owner, lease_token::int as token,
      last_sequence::int, deleted_at is not null as deleted, coalesce(exit_requested, false) as exit,
      status_reason as reason, coalesce(auto_resume, false) as auto_resume,
      (select jsonb_agg(jsonb_build_array(sequence, session_version, event_type, payload ->> 'from', payload ->> 'to')
         order by sequence)
       from events where namespace = 'default' and session_id = sessions.id) as events
    from sessions where namespace = 'default' and agent_id = ${agentId}`;
}

/** A session of the model as `storedSessions` gives it. */
function wanted(session: ModelSession, id: string, agentId: string): object {
  const { phase, version, attempt, token, reason, exit, autoResume, deleted, events } = session;
  return {
    id,
    phase,
    status: shownStatus(phase),
    version,
    attempt,
    owner: ownerOf(session, agentId),
    token,
    last_sequence: events.length,
    deleted,
    exit,
    reason,
    auto_resume: autoResume,
    events: events.map((event, index) => [index + 1, ...eventCells(event)]),
  };
}

const eventCells = ({ version, type, from = null, to = null }: ModelEvent) => [version, type, from, to];
const ownerOf = ({ owner }: ModelSession, agentId: string) => (owner === null ? null : `${owner}-${agentId}`);

/** What an answer must say of itself. */
function expectAnswer(answer: Answer, expected: Expected, before: ModelSession | undefined, agentId: string): void {
  expect(answer.status, answer.text).toBe(expected.status);
  if (expected.code !== undefined) expect(answer.body.code).toBe(expected.code);
  if (expected.code === "invalid_transition") {
    expect(answer.body).toMatchObject({ from: before?.phase, allowed: [...(allowedFrom(before) ?? [])] });
  }
  if (expected.count !== undefined) expect(answer.body.paused).toBe(expected.count);
  if (expected.session === undefined) return;
  const { phase, version, attempt, exit } = expected.session;
  const owner = ownerOf(expected.session, agentId);
  const status = shownStatus(phase);
  expect(answer.body).toMatchObject({ phase, status, version, attempt, lease_owner: owner, exit_requested: exit });
}

const allowedFrom = (session: ModelSession | undefined) => session && designTransitions.get(session.phase);

/** A command, as somebody reads it who looks for what went wrong. */
function toldOf(said: Command): string {
  const { does, ...rest } = said;
  return `${does} ${JSON.stringify(rest)}`;
}

/** Sends the commands one by one; throws at the first after which the service and the model differ. */
async function inStep(commands: readonly Command[]): Promise<void> {
  const model = new LifecycleModel();
  const agentId = randomUUID();
  const ids: string[] = [];
  const story: string[] = [];
  for (const said of commands) {
    const about = model.of(said);
    const before = about && { ...about };
    const id = about === undefined ? "" : (ids[model.sessions.indexOf(about)] ?? "");
    const headers = headersOf(said, about);
    const expected = model.apply(said);
    if (expected === undefined) continue;
    story.push(`${about === undefined ? "" : `${before?.phase} #${model.sessions.indexOf(about)}: `}${toldOf(said)}`);
    try {
      const pass = passing[said.does];
      if (pass) await pass(id);
      else {
        const { method, path, body } = requestOf(said, id, agentId);
        const answer = await service.request(method, path, body, headers);
        if (said.does === "create") ids.push(answer.body.id);
        expectAnswer(answer, expected, before, agentId);
      }
      const stored = await storedSessions(agentId);
      const byId = new Map(stored.map((row) => [row["id"], row]));
      model.sessions.forEach((session, index) => {
        const stands = wanted(session, ids[index] ?? "", agentId);
        expect(byId.get(ids[index]), `session #${index}`).toEqual(stands);
      });
    } catch (error) {
      throw new Error(`after\n${story.map((line, index) => `  ${index + 1}. ${line}\n`).join("")}${whyOf(error)}`);
    }
  }
}

/** What was not as it should be, whole: the reporter would cut it short. */
function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (!("actual" in error && "expected" in error)) return error.message;
  return `${error.message}\n  is:     ${JSON.stringify(error.actual)}\n  should: ${JSON.stringify(error.expected)}`;
}

const seed = process.env["MODEL_SEED"];
const runs = Number(process.env["MODEL_RUNS"] ?? 60);

describe("the service and a model of its lifecycle, in step", () => {
  it("agree after each of random commands on several sessions: answer, phase, version, attempt, owner, events", async () => {
    const commands = fc
      .tuple(create, create, fc.array(command, { minLength: 1, maxLength: 28, size: "max" }))
      .map(([first, second, others]): Command[] => [first, second, ...others]);
    await fc.assert(fc.asyncProperty(commands, inStep), {
      numRuns: runs,
      ...(seed === undefined ? {} : { seed: Number(seed) }),
    });
  }, 600_000);
});
