/** A transaction that stays open holds up its own events and nobody else's, and what it commits late is not lost. */

import type { Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Subscription, startTestService, subscribe, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

interface OpenChange {
  commit(): Promise<void>;
  rollBack(): Promise<void>;
}

/** Changes a session by hand, as the service does, and leaves the transaction open. */
async function changeAndStayOpen(service: TestService, id: string): Promise<OpenChange> {
  const connection = await service.database.sql.reserve();
  await connection`begin`;
  await write(connection, id);
  const end = async (how: "commit" | "rollback") => {
    await connection.unsafe(how);
    connection.release();
  };
  return { commit: () => end("commit"), rollBack: () => end("rollback") };
}

async function write(connection: Sql, id: string): Promise<void> {
  await connection`update sessions set version = version + 1, last_sequence = last_sequence + 1 where id = ${id}`;
  await connection`
    insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
    select gen_random_uuid(), id, last_sequence, version, 'session.updated',
      jsonb_build_object('agent_id', agent_id, 'status', status, 'phase', phase, 'updates', '["context"]'::jsonb), now()
    from sessions where id = ${id}`;
}

async function pending(service: TestService): Promise<string> {
  const [row] = await service.database.sql`select pending::text from relays`;
  return row?.["pending"];
}

/** Everything that a reader finds who reads on from the last position that it saw. */
async function readOn(service: TestService, after: string | undefined): Promise<{ id: string; position: string }[]> {
  const query = after === undefined ? "" : `after=${after}&`;
  const { status, body } = await service.request("GET", `/events?${query}limit=1000`);
  expect(status).toBe(200);
  return body.map((event: { event_id: string; position: string }) => ({
    id: event.event_id,
    position: event.position,
  }));
}

it("a reader finds what was committed before it asked, at once", async () => {
  await using service = await startTestService();
  await using replica = await startTestService({ DATABASE_URL: service.database.url, REDIS_URL: service.redisUrl });
  let last: string | undefined;
  for (let round = 0; round < 30; round++) {
    const [writer, reader] = round % 2 === 0 ? [service, replica] : [replica, service];
    const id = await writer.create();
    for (const { url } of [writer, reader]) {
      const response = await fetch(`${url}/events${last === undefined ? "" : `?after=${last}`}`);
      const events = (await response.json()) as { aggregate_id: string; position: string }[];
      expect(events.map((event) => event.aggregate_id)).toEqual([id]);
      if (url === reader.url) last = events[0]?.position;
    }
  }
});

describe("a transaction that stays open", () => {
  let service: TestService;
  let events: Subscription;
  beforeAll(async () => {
    service = await startTestService();
    events = await subscribe(service.redisUrl);
  });
  afterAll(async () => {
    await events[Symbol.asyncDispose]();
    await service.stop();
  });

  it("is passed by within a second: what others commit is published, and can be read", async () => {
    const late = await service.create();
    const others = await Promise.all(Array.from({ length: 5 }, () => service.create()));
    const open = await changeAndStayOpen(service, late);
    await Promise.all(others.map((id) => service.request("PATCH", `/sessions/${id}`, { status: "paused" })));
    const started = performance.now();
    for (const id of others) await events.ofSession(id, 2);
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(await pending(service)).not.toBe("{}");
    const before = await readOn(service, undefined);
    await open.commit();
    await events.ofSession(late, 2);
    await until(async () => (await pending(service)) === "{}", "nothing to be pending any more");
    // A reader goes on from the last that it saw, and finds the one that came late; nothing is told twice.
    const after = await readOn(service, before.at(-1)?.position);
    const ofLate = events.events.filter((event) => event.aggregate_id === late).map((event) => event.event_id);
    expect(after.map(({ id }) => id)).toEqual([ofLate[1]]);
    const whole = await readOn(service, undefined);
    expect(whole.map(({ id }) => id)).toEqual([...before, ...after].map(({ id }) => id));
  });

  it("keeps the order within its session, also when that goes on the moment it commits", async () => {
    for (let round = 0; round < 5; round++) {
      const late = await service.create();
      const other = await service.create();
      await events.ofSession(late, 1);
      const open = await changeAndStayOpen(service, late);
      await service.request("PATCH", `/sessions/${other}`, { status: "paused" });
      await events.ofSession(other, 2);
      // They wait for the row, and go on when it is free.
      const changes = Array.from({ length: 8 }, (_, step) =>
        service.request("PATCH", `/sessions/${late}`, { checkpoint: { step } }),
      );
      await open.commit();
      await Promise.all(changes);
      const its = await events.ofSession(late, 10);
      const firsts = [...new Map(its.map((event) => [event.event_id, event])).values()];
      expect(firsts.map((event) => event.sequence)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      const { body } = await service.request("GET", `/events?aggregate_id=${late}`);
      expect(body.map((event: { sequence: number }) => event.sequence)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
  });

  it("is forgotten when it is rolled back", async () => {
    const late = await service.create();
    const other = await service.create();
    const open = await changeAndStayOpen(service, late);
    await service.request("PATCH", `/sessions/${other}`, { status: "paused" });
    await events.ofSession(other, 2);
    await until(async () => (await pending(service)) !== "{}", "it to be passed by");
    await open.rollBack();
    await until(async () => (await pending(service)) === "{}", "nothing to be pending any more");
    await service.request("PATCH", `/sessions/${late}`, { status: "paused" });
    expect((await events.ofSession(late, 2)).map((event) => event.sequence)).toEqual([1, 2]);
  });

  it("is let in when its session is free again; what others commit does not wait for that", async () => {
    const holder = await service.database.sql.reserve();
    let late = "";
    for (let isHeld = false; !isHeld; ) {
      late = await service.create();
      const other = await service.create();
      const open = await changeAndStayOpen(service, late);
      await service.request("PATCH", `/sessions/${other}`, { status: "paused" });
      await events.ofSession(other, 2);
      await holder`begin`;
      // Waits for the row, and has it next, if the relay was not quicker.
      const locked = holder`select 1 from sessions where id = ${late} for no key update`;
      await open.commit();
      await locked;
      const [row] = await holder`
        select e.position <@ pending as waits from events e, relays where session_id = ${late} and sequence = 2`;
      isHeld = row?.["waits"] === true;
      if (!isHeld) await holder`rollback`;
    }
    try {
      const started = performance.now();
      for (let round = 0; round < 5; round++) await events.ofSession(await service.create(), 1);
      expect(performance.now() - started).toBeLessThan(2_000);
      expect(events.events.filter((event) => event.aggregate_id === late)).toHaveLength(1);
    } finally {
      await holder`rollback`;
      holder.release();
    }
    expect((await events.ofSession(late, 2)).map((event) => event.sequence)).toEqual([1, 2]);
  });

  it("costs others its patience once, however many gaps it leaves", async () => {
    const late = await Promise.all(Array.from({ length: 20 }, () => service.create()));
    const other = await service.create();
    const connection = await service.database.sql.reserve();
    await connection`begin`;
    for (const id of late) {
      await write(connection, id);
      await service.request("PATCH", `/sessions/${other}`, { checkpoint: { id } });
    }
    const started = performance.now();
    await events.ofSession(await service.create(), 1);
    expect(performance.now() - started).toBeLessThan(3_000);
    await connection`commit`;
    connection.release();
    for (const id of late) expect((await events.ofSession(id, 2)).map((event) => event.sequence)).toEqual([1, 2]);
  });

  it("of thousands of sessions is let in within seconds, and holds up nobody for longer", async () => {
    await using own = await startTestService();
    const connection = await own.database.sql.reserve();
    await connection`begin`;
    await connection`
      with made as (
        insert into sessions (id, agent_id, last_sequence, created_at, updated_at, last_activity_at, phase_since)
        select gen_random_uuid(), gen_random_uuid(), 1, now(), now(), now(), now() from generate_series(1, 4000)
        returning id)
      insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
      select gen_random_uuid(), id, 1, 1, 'session.created', '{}', now() from made`;
    await own.create();
    await until(async () => (await pending(own)) !== "{}", "it to be passed by");
    await connection`commit`;
    connection.release();
    await using changes = await subscribe(own.redisUrl);
    const id = await own.create();
    await until(() => changes.events.some((event) => event.aggregate_id === id), "the next one", { withinMs: 10_000 });
    await until(async () => (await pending(own)) === "{}", "nothing to be pending any more", { withinMs: 10_000 });
    const told: string[] = [];
    for (let after = ""; ; ) {
      const page = await readOn(own, after === "" ? undefined : after);
      if (page.length === 0) break;
      told.push(...page.map((event) => event.id));
      after = page.at(-1)?.position ?? "";
    }
    expect(told).toHaveLength(4_002);
    expect(new Set(told).size).toBe(4_002);
  });

  it("is not forgotten by the process that takes over", async () => {
    await using first = await startTestService();
    const late = await first.create();
    const other = await first.create();
    const open = await changeAndStayOpen(first, late);
    await first.request("PATCH", `/sessions/${other}`, { status: "paused" });
    await until(async () => (await pending(first)) !== "{}", "it to be passed by");
    // Its lease is taken by the next, as if it had died.
    await using second = await startTestService({ DATABASE_URL: first.database.url, REDIS_URL: first.redisUrl });
    const [row] = await first.database.sql`select holder from relays`;
    await first.database
      .sql`update relays set holder = gen_random_uuid(), token = token + 1, expires_at = clock_timestamp()`;
    await until(async () => {
      const [now] = await first.database.sql`select holder, expires_at > clock_timestamp() as held from relays`;
      return now?.["held"] === true && now["holder"] !== row?.["holder"];
    }, "a takeover");
    await open.commit();
    await until(async () => (await readOn(second, undefined)).length >= 4, "the late event to be read");
    await until(async () => (await pending(second)) === "{}", "nothing to be pending any more");
    const seen = await readOn(second, undefined);
    expect(seen).toHaveLength(4);
    expect(new Set(seen.map(({ id }) => id)).size).toBe(4);
  });
});
