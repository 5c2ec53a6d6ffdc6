import { describe, expect, it } from "vitest";
import type { EventRow } from "../../src/events/row.ts";
import { Backlog, framesOf } from "../../src/http/event-frames.ts";

const event = (position: number): EventRow => ({
  position,
  event_id: `id-${position}`,
  session_id: "session",
  sequence: position,
  session_version: 1,
  event_type: "session.lunch",
  schema_version: 1,
  payload: "{}",
  metadata: "{}",
  created_at: "2026-01-31 09:30:00.000000",
});

const rows = [1, 2, 3, 4, 5].map(event);

describe("frames", () => {
  it("are made once for all who write the same events, and anew for who writes others of them", () => {
    const { text, events } = framesOf(rows, 0, 1e6, undefined);
    expect(events).toEqual(rows);
    expect(framesOf([...rows], 0, 1e6, undefined).text).toBe(text);
    const others = framesOf(
      rows.filter(({ position }) => position !== 3),
      0,
      1e6,
      undefined,
    );
    expect(others.text.toString().match(/^id: \d$/gm)).toEqual(["id: 1", "id: 2", "id: 4", "id: 5"]);
    expect(framesOf(rows, 0, 1e6, undefined).text.equals(text)).toBe(true);
    expect(framesOf(rows, 0, 1e6, "coding").text.toString()).toContain("event: lunch\n");
  });

  it("are one event at least, and end with the one that makes them long enough", () => {
    const one = framesOf(rows, 2, 1, undefined);
    expect(one.events).toEqual([rows[2]]);
    expect(framesOf(rows, 2, 1, undefined).text).toBe(one.text);
    expect(framesOf(rows, 1, one.text.length + 1, undefined).events).toEqual(rows.slice(1, 3));
    expect(framesOf(rows, 4, 1e6, undefined).events).toEqual(rows.slice(4));
  });
});

describe("a backlog", () => {
  it("counts a text that waits for several clients once, until the last of them has it", () => {
    const [first, second] = [Buffer.alloc(100), Buffer.alloc(100)];
    const backlog = new Backlog();
    for (const text of [first, first, second]) backlog.add(text);
    expect(backlog.bytes).toBe(200);
    backlog.remove(first);
    expect(backlog.bytes).toBe(200);
    backlog.remove(first);
    expect(backlog.bytes).toBe(100);
    backlog.remove(second);
    backlog.remove(second);
    expect(backlog.bytes).toBe(0);
  });
});
