import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRow } from "../../src/events/row.ts";
import { eventFilter, eventName, eventText } from "../../src/http/event-words.ts";
import { designRows, designVocabularies } from "../support/phases.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

function row(type: string, payload: object): EventRow {
  return {
    position: 42,
    event_id: "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8b10",
    session_id: "0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10",
    sequence: 7,
    session_version: 3,
    event_type: type,
    schema_version: 1,
    payload: JSON.stringify(payload),
    metadata: "{}",
    created_at: "2026-01-31 09:30:00.12",
  };
}

describe.each(designVocabularies)("an event in the %s vocabulary", (vocabulary) => {
  it("of a transition is state_changed exactly when the word changes", () => {
    for (const { phase: from, [vocabulary]: fromWord } of designRows) {
      for (const { phase: to, [vocabulary]: toWord } of designRows) {
        const event = row("session.updated", { from, to, phase: to, updates: ["phase"] });
        const told = JSON.parse(eventText(event, vocabulary));
        const plain = JSON.parse(eventText(event, undefined));
        if (fromWord === toWord) expect(told).toEqual(plain);
        else {
          const payload = { from: fromWord, to: toWord, reason: null };
          expect(told).toEqual({ ...plain, event_type: "state_changed", payload });
        }
        expect(eventName(event, vocabulary)).toBe(told.event_type);
      }
    }
  });
});

describe("an event in a vocabulary", () => {
  it("gives the reason of a transition as it stands", () => {
    const reason = 'it said "no" … \\ \n';
    const event = row("session.updated", { from: "busy", to: "failed", reason });
    expect(JSON.parse(eventText(event, "coding")).payload).toEqual({ from: "active", to: "failed", reason });
  });

  it("is as ever when it is another change; a reported one has its own name", () => {
    for (const type of ["session.created", "session.updated", "session.deleted", "session.restored", "session.purged"])
      expect(JSON.parse(eventText(row(type, {}), "coding")).event_type).toBe(type);
    for (const type of ["thinking", "terminal", "file_change", "completion", "error", "message", "of_its_own"]) {
      const event = row(`session.${type}`, { from: "running", to: "paused" });
      const told = JSON.parse(eventText(event, "coding"));
      expect(told).toEqual({ ...JSON.parse(eventText(event, undefined)), event_type: type });
      expect(told.payload).toEqual({ from: "running", to: "paused" });
    }
    expect(eventName(row("session.thinking", {}), undefined)).toBe("session.thinking");
  });

  it("is as ever when it names phases that nobody knows", () => {
    for (const payload of [{ from: "running", to: "constructor" }, { from: 1, to: "paused" }, { from: "running" }])
      expect(eventName(row("session.updated", payload), "coding")).toBe("session.updated");
  });
});

const told = {
  coding: [
    "session.updated",
    "pending → active",
    "session.updated",
    "active → paused",
    "paused → active",
    "active → failed",
  ],
  container: ["session.updated", "INIT → READY", "READY → BUSY", "BUSY → IDLE", "IDLE → READY", "READY → ERROR"],
  operator: [
    "Pending → Creating",
    "Creating → Running",
    "session.updated",
    "Running → Stopped",
    "Stopped → Running",
    "Running → Failed",
  ],
} as const;

describe.each(designVocabularies)("reading events with ?vocabulary=%s", (vocabulary) => {
  let service: TestService;
  let id: string;
  beforeAll(async () => {
    service = await startTestService();
    id = await service.create({ status: "pending" });
    for (const phase of ["starting", "running", "busy", "paused", "running"])
      await service.request("PATCH", `/sessions/${id}`, { phase });
    await service.request("PATCH", `/sessions/${id}`, { checkpoint: { from: "running", to: "paused" } });
    for (const type of ["session.thinking", "session.state_changed"]) {
      await service.database.sql`
        with counted as (
          update sessions set last_sequence = last_sequence + 1 where id = ${id} returning last_sequence, version
        )
        insert into events (event_id, session_id, sequence, session_version, event_type, payload, created_at)
        select gen_random_uuid(), ${id}, last_sequence, version, ${type}, '{"iteration":1.0}', clock_timestamp()
        from counted`;
    }
    await service.request("PATCH", `/sessions/${id}`, { status: "crashed" });
    await until(async () => (await service.request("GET", "/events")).body.length === 10, "the feed to have all");
  });
  afterAll(() => service.stop());
  const read = async (query: string) => {
    const [ofAll, ofSession] = await Promise.all(
      ["/events", `/sessions/${id}/events`].map((path) =>
        service.request("GET", `${path}?vocabulary=${vocabulary}${query}`),
      ),
    );
    expect(ofAll?.status, ofAll?.text).toBe(200);
    expect(ofSession?.text).toBe(ofAll?.text);
    return (ofAll?.body ?? []) as { event_type: string; sequence: number; payload: Record<string, unknown> }[];
  };

  it("200 tells transitions as state_changed, what was reported under its own name, and all else as ever", async () => {
    const events = await read("");
    const brief = events.map(({ event_type: type, payload }) =>
      type === "state_changed" && payload["from"] ? `${payload["from"]} → ${payload["to"]}` : type,
    );
    const transitions = told[vocabulary];
    const rest = ["session.updated", "thinking", "state_changed"];
    expect(brief).toEqual(["session.created", ...transitions.slice(0, 5), ...rest, ...transitions.slice(5)]);
    const plain = (await service.request("GET", "/events")).body;
    const unlike = ["event_type", "payload"];
    const others = (event: object) => Object.entries(event).filter(([key]) => !unlike.includes(key));
    expect(events.map(others)).toEqual(plain.map(others));
  });

  it("200 filters by the names that it gives, with or without the prefix, over all pages", async () => {
    const all = await read("");
    for (const names of [
      ["state_changed"],
      ["updated"],
      ["session.updated"],
      ["session.state_changed", "updated"],
      ["thinking"],
      ["session.thinking", "state_changed"],
      ["created", "updated"],
    ]) {
      const bare = names.map((name) => name.replace("session.", ""));
      const expected = all.filter(({ event_type: type }) => bare.includes(type.replace("session.", "")));
      expect(expected.length).toBeGreaterThan(0);
      expect(await read(`&event_type=${names.join()}`), names.join()).toEqual(expected);
      for (let place = "", rest = expected; rest.length > 0; rest = rest.slice(1)) {
        const answer = await service.request(
          "GET",
          `/events?vocabulary=${vocabulary}&limit=1&event_type=${names.join()}${place}`,
        );
        expect(answer.body, names.join()).toEqual(rest.slice(0, 1));
        place = `&cursor=${/cursor=([^>&]+)/.exec(answer.headers.get("link") ?? "")?.[1]}`;
      }
    }
  });

  it("filters a stream's events as it does the history's", async () => {
    const rows = await service.database.sql<EventRow[]>`
      select position::float8, event_id, session_id, sequence, session_version, event_type, schema_version,
        payload::text, metadata::text, (created_at at time zone 'UTC')::text || '+00' as created_at
      from events order by position`;
    const [, second, , , fifth] = (await service.request("GET", "/events")).body;
    for (const [query, asked] of [
      ["", {}],
      ["&event_type=state_changed", { event_type: ["state_changed"] }],
      ["&event_type=updated,thinking", { event_type: ["updated", "thinking"] }],
      [`&created_after=${second.created_at}`, { created_after: second.created_at }],
      [`&created_before=${fifth.created_at}`, { created_before: fifth.created_at }],
    ] as const) {
      const keeps = eventFilter({ vocabulary, ...asked });
      const kept = rows.filter(keeps).map((event) => JSON.parse(eventText(event, vocabulary)));
      expect(kept, query).toEqual(await read(query));
    }
    const isOf = (session: string) => eventFilter({ aggregate_id: [session] });
    expect(rows.every(isOf(id))).toBe(true);
    expect(rows.some(isOf("0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10"))).toBe(false);
  });
});
