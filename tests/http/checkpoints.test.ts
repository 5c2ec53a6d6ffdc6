/** Saving checkpoints, and reading them. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Answer, startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const nobody = "00000000-0000-4000-8000-000000000000";

const get = (path: string, headers?: Record<string, string>) => service.request("GET", path, undefined, headers);
const save = (id: string, body: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/checkpoints`, body, headers);
const patch = (id: string, body: unknown) => service.request("PATCH", `/sessions/${id}`, body);
const eventsOf = async (id: string) => (await get(`/sessions/${id}/events`)).body;
const numbersOf = (answer: Answer): number[] => answer.body.map((one: { number: number }) => one.number);

async function claimed(fields = {}): Promise<{ id: string; token: string }> {
  const id = await service.create(fields);
  const lease = await service.request("POST", `/sessions/${id}/lease`, { worker_id: "worker-7" });
  return { id, token: String(lease.body.lease_token) };
}

describe("POST /sessions/{id}/checkpoints", () => {
  it("201 with the checkpoint and where it is; the session shows it, with one event that has its id", async () => {
    const id = await service.create({ context: { step: 0 } });
    const answer = await save(id, {
      data: { step: 5 },
      label: "half",
      description: "two\nlines",
      type: "milestone",
      created_by: "me",
    });
    expect(answer.status).toBe(201);
    const session = (await get(`/sessions/${id}`)).body;
    const [, event, ...more] = await eventsOf(id);
    expect(more).toEqual([]);
    expect(answer.body).toEqual({
      id: event.event_id,
      checkpoint_id: event.event_id,
      session_id: id,
      number: 1,
      checkpoint_ns: "",
      type: "milestone",
      label: "half",
      description: "two\nlines",
      created_by: "me",
      created_at: session.updated_at,
      session_version: 2,
      bytes: 11,
      context_bytes: 0,
      data: { step: 5 },
      context: null,
    });
    expect(answer.headers.get("location")).toBe(`/sessions/${id}/checkpoints/1`);
    expect(session).toMatchObject({ version: 2, checkpoint: { step: 5 }, checkpoint_count: 1, context: { step: 0 } });
    expect(event).toMatchObject({
      event_type: "session.updated",
      sequence: 2,
      session_version: 2,
      payload: { updates: ["checkpoint"], status: "active", phase: "running" },
    });
    for (const path of [answer.headers.get("location") ?? "", `/checkpoints/${answer.body.id}/`]) {
      expect((await get(path)).text, path).toBe(answer.text);
    }
  });

  it("201 with every digit as it was sent, and any key", async () => {
    const id = await service.create();
    const data = '{"n": 9007199254740993, "f": 1.0, "__proto__": {"a": null}, "constructor": [], "ü": "\\u2028"}';
    const answer = await save(id, `{"data": ${data}, "include_context": null}`);
    expect(answer.status).toBe(201);
    for (const text of [answer.text, (await get(`/sessions/${id}/checkpoints?include=data`)).text]) {
      expect(text).toContain("9007199254740993");
      expect(text).toContain('"f": 1.0');
      expect(text).toContain('"__proto__": {"a": null}');
    }
    expect((await get(`/sessions/${id}`)).text).toContain("9007199254740993");
  });

  it("201 for the same data again: another one, with a version and an event of its own", async () => {
    const id = await service.create();
    await save(id, { data: { step: 1 } });
    expect((await save(id, { data: { step: 1 } })).body).toMatchObject({ number: 2, session_version: 3 });
    expect(await eventsOf(id)).toHaveLength(3);
  });

  it("201 with the context of that moment, where that is asked for: later changes leave it", async () => {
    const id = await service.create({ context: { a: 1 } });
    expect((await save(id, { data: {}, include_context: true })).body).toMatchObject({
      context: { a: 1 },
      context_bytes: 8,
    });
    await patch(id, { context: { a: 2 } });
    expect((await get(`/sessions/${id}/checkpoints/1`)).body.context).toEqual({ a: 1 });
  });

  it("201 for another line, which the session does not show, in the numbers of all", async () => {
    const id = await service.create({ checkpoint: { main: 1 } });
    expect((await save(id, { data: { agent: 1 }, checkpoint_ns: "reviewer" })).body).toMatchObject({
      number: 2,
      checkpoint_ns: "reviewer",
      session_version: 2,
    });
    expect((await get(`/sessions/${id}`)).body).toMatchObject({
      checkpoint: { main: 1 },
      checkpoint_count: 2,
      version: 2,
    });
    expect((await eventsOf(id))[1].payload.updates).toEqual(["checkpoint"]);
  });

  it("201 beside PATCH and POST /sessions/, which make checkpoints of the same history", async () => {
    const id = await service.create({ checkpoint: { step: 0 } });
    await patch(id, { checkpoint: { step: 1 } });
    await save(id, { data: { step: 2 } });
    await patch(id, { checkpoint: { step: 3 }, status: "paused" });
    const listed = (await get(`/sessions/${id}/checkpoints?include=data`)).body;
    expect(
      listed.map(({ number, data, type }: { number: number; data: object; type: string }) => [number, data, type]),
    ).toEqual([
      [4, { step: 3 }, "manual"],
      [3, { step: 2 }, "manual"],
      [2, { step: 1 }, "manual"],
      [1, { step: 0 }, "manual"],
    ]);
  });

  it("201 once with an Idempotency-Key, and the same answer again", async () => {
    const id = await service.create();
    const headers = { "idempotency-key": "save-1" };
    const first = await save(id, { data: { a: 1 } }, headers);
    const again = await save(id, { data: { a: 1 } }, headers);
    expect([again.status, again.text, again.headers.get("location")]).toEqual([
      201,
      first.text,
      first.headers.get("location"),
    ]);
    expect(again.headers.get("idempotent-replayed")).toBe("true");
    expect((await get(`/sessions/${id}`)).body.checkpoint_count).toBe(1);
    expect((await save(id, { data: { a: 2 } }, headers)).status).toBe(422);
  });

  it("201 in every phase, also of a session that is over", async () => {
    for (const status of ["paused", "completed", "crashed"]) {
      const id = await service.create();
      await patch(id, { status });
      expect((await save(id, { data: { a: 1 } })).status, status).toBe(201);
      expect((await get(`/sessions/${id}`)).body).toMatchObject({ status, checkpoint: { a: 1 } });
    }
  });

  it("201 of the lease's holder renews the lease; 409 lease_lost of who names another token", async () => {
    const { id, token } = await claimed();
    const before = (await get(`/sessions/${id}`)).body.lease_expires_at;
    expect((await save(id, { data: {} }, { "lease-token": token })).status).toBe(201);
    expect((await get(`/sessions/${id}`)).body.lease_expires_at > before).toBe(true);
    const late = await save(id, { data: {}, lease_token: Number(token) + 1 });
    expect([late.status, late.body.code]).toEqual([409, "lease_lost"]);
    expect((await get(`/sessions/${id}`)).body.checkpoint_count).toBe(1);
  });

  it("412 where If-Match names another version, and nothing is saved", async () => {
    const id = await service.create();
    expect((await save(id, { data: {} }, { "if-match": '"1"' })).status).toBe(201);
    expect((await save(id, { data: {} }, { "if-match": '"1"' })).body.code).toBe("precondition_failed");
    expect((await save(id, { data: {} }, { "if-match": '"1", "2"' })).status).toBe(201);
    expect((await get(`/sessions/${id}`)).body).toMatchObject({ checkpoint_count: 2, version: 3 });
  });

  it("404 session_not_found for a session that is not there, or was deleted", async () => {
    const id = await service.create();
    await service.request("DELETE", `/sessions/${id}`);
    for (const one of [id, nobody, "none"]) {
      const answer = await save(one, { data: {} });
      expect([answer.status, answer.body.code], one).toEqual([404, "session_not_found"]);
    }
  });

  it.each([
    [{}, "/data"],
    [{ data: null }, "/data"],
    [{ data: [] }, "/data"],
    [{ data: {}, type: "daily" }, "/type"],
    [{ data: {}, label: "" }, "/label"],
    [{ data: {}, label: "two\nlines" }, "/label"],
    [{ data: {}, label: "x".repeat(256) }, "/label"],
    [{ data: {}, description: "x".repeat(2_001) }, "/description"],
    [{ data: {}, created_by: 7 }, "/created_by"],
    [{ data: {}, checkpoint_ns: "x".repeat(256) }, "/checkpoint_ns"],
    [{ data: {}, include_context: "yes" }, "/include_context"],
    [{ data: { text: "\u0000" } }, "/data/text"],
  ])("422 with a pointer: %j", async (body, pointer) => {
    const answer = await save(await service.create(), body);
    expect(answer.status).toBe(422);
    expect(answer.body.errors.map((error: { pointer: string }) => error.pointer)).toEqual([pointer]);
  });
});

describe("GET /sessions/{id}/checkpoints", () => {
  it("200 with pages, newest first, by links that keep the filters; without documents unless they are asked for", async () => {
    const id = await service.create({ context: { c: 1 } });
    for (let n = 1; n <= 7; n++) {
      await save(id, { data: { n }, label: n % 2 === 1 ? "odd" : "even", include_context: n === 7 });
    }
    const seen: number[] = [];
    let path: string | undefined = `/sessions/${id}/checkpoints?label=odd&limit=2&include=data,context`;
    while (path !== undefined) {
      const answer: Answer = await get(path);
      expect(answer.status).toBe(200);
      for (const one of answer.body) {
        expect(one).toMatchObject({
          data: { n: one.number },
          context: one.number === 7 ? { c: 1 } : null,
          label: "odd",
        });
      }
      seen.push(...numbersOf(answer));
      path = /^<([^>]+)>; rel="next"$/.exec(answer.headers.get("link") ?? "")?.[1];
    }
    expect(seen).toEqual([7, 5, 3, 1]);
    const plain = await get(`/sessions/${id}/checkpoints`);
    expect(numbersOf(plain)).toEqual([7, 6, 5, 4, 3, 2, 1]);
    expect(plain.headers.get("link")).toBe(null);
    expect(plain.body[0]).toMatchObject({ bytes: 8, context_bytes: 8 });
    for (const one of plain.body)
      expect([Object.hasOwn(one, "data"), Object.hasOwn(one, "context")]).toEqual([false, false]);
  });

  it("200 with those of a line, of types, with a label; an empty line is the one without a name", async () => {
    const id = await service.create();
    await save(id, { data: {}, type: "milestone", label: "a b&c" });
    await save(id, { data: {}, type: "auto", checkpoint_ns: "x" });
    await save(id, { data: {}, checkpoint_ns: "x" });
    await save(id, { data: {} });
    for (const [query, numbers] of [
      ["checkpoint_ns=x", [3, 2]],
      ["checkpoint_ns=", [4, 1]],
      ["type=milestone,auto", [2, 1]],
      ["type=milestone&type=manual", [4, 3, 1]],
      ["type=manual&checkpoint_ns=x", [3]],
      ["label=a%20b%26c", [1]],
      ["label=none", []],
    ] as const) {
      expect(numbersOf(await get(`/sessions/${id}/checkpoints?${query}`)), query).toEqual(numbers);
    }
  });

  it("200 with an empty page for a session without any", async () => {
    const answer = await get(`/sessions/${await service.create()}/checkpoints`);
    expect([answer.status, answer.text]).toEqual([200, "[]"]);
  });

  it("200 with a page that ends early where the data is large, and a link to the rest", async () => {
    const id = await service.create();
    const text = "x".repeat(6 * 1024 * 1024);
    for (let n = 0; n < 7; n++) expect((await save(id, { data: { text } })).status).toBe(201);
    const first = await get(`/sessions/${id}/checkpoints?include=data`);
    expect(numbersOf(first)).toEqual([7, 6, 5, 4, 3]);
    const next = /^<([^>]+)>/.exec(first.headers.get("link") ?? "")?.[1] ?? "";
    expect(numbersOf(await get(next))).toEqual([2, 1]);
    expect(numbersOf(await get(`/sessions/${id}/checkpoints`))).toHaveLength(7);
  });

  it("404, unless include_deleted, once the session is deleted; the same for single ones", async () => {
    const id = await service.create({ checkpoint: { a: 1 } });
    const [{ id: checkpoint }] = (await get(`/sessions/${id}/checkpoints`)).body;
    await service.request("DELETE", `/sessions/${id}`);
    for (const [path, code] of [
      [`/sessions/${id}/checkpoints`, "session_not_found"],
      [`/sessions/${id}/checkpoints/1`, "session_not_found"],
      [`/sessions/${id}/checkpoints/latest`, "session_not_found"],
      [`/checkpoints/${checkpoint}`, "checkpoint_not_found"],
    ] as const) {
      const answer = await get(path);
      expect([answer.status, answer.body.code], path).toEqual([404, code]);
      expect((await get(`${path}?include_deleted=true`)).status, path).toBe(200);
    }
    expect((await get(`/sessions/${nobody}/checkpoints?include_deleted=true`)).status).toBe(404);
  });

  it("400 for a cursor of another list, with other filters, or altered", async () => {
    const id = await service.create();
    for (let n = 0; n < 3; n++) await save(id, { data: {} });
    const link = (await get(`/sessions/${id}/checkpoints?limit=1`)).headers.get("link") ?? "";
    const cursor = /cursor=([^>&]+)/.exec(link)?.[1] ?? "";
    const other = await service.create();
    for (const path of [
      `/sessions/${other}/checkpoints?cursor=${cursor}`,
      `/sessions/${id}/checkpoints?type=auto&cursor=${cursor}`,
      `/sessions/${id}/checkpoints?cursor=${cursor}x`,
      `/sessions/${id}/checkpoints?cursor=`,
    ]) {
      expect((await get(path)).body.code, path).toBe("invalid_cursor");
    }
    expect(numbersOf(await get(`/sessions/${id}/checkpoints?cursor=${cursor}`))).toEqual([2, 1]);
  });

  it("422 for a parameter that is none", async () => {
    const id = await service.create();
    for (const query of [
      "type=daily",
      "include=all",
      "limit=0",
      "checkpoint_ns=%00",
      "label=",
      "label=%0a",
      "include_deleted=x",
    ]) {
      const answer = await get(`/sessions/${id}/checkpoints?${query}`);
      expect(answer.status, query).toBe(422);
      expect(answer.body.errors[0].parameter, query).toMatch(query.split("=")[0] ?? "");
    }
  });
});

describe("GET of one checkpoint", () => {
  it("200 for the latest of a line, the one without a name unless said", async () => {
    const id = await service.create();
    for (const [n, ns] of [
      ["1", ""],
      ["2", "x"],
      ["3", ""],
      ["4", "x"],
      ["5", "y"],
    ]) {
      await save(id, { data: { n }, checkpoint_ns: ns });
    }
    expect((await get(`/sessions/${id}/checkpoints/latest`)).body).toMatchObject({ number: 3, data: { n: "3" } });
    expect((await get(`/sessions/${id}/checkpoints/latest?checkpoint_ns=x`)).body.number).toBe(4);
    expect((await get(`/sessions/${id}/checkpoints/latest?checkpoint_ns=z`)).body.code).toBe("checkpoint_not_found");
  });

  it("404 checkpoint_not_found for a number or an id that there is not, however it is written", async () => {
    const id = await service.create({ checkpoint: {} });
    for (const path of [
      ...["2", "0", "-1", "1.0", "01", "x", "99999999999", "2147483648", "%20"].map(
        (n) => `/sessions/${id}/checkpoints/${n}`,
      ),
      `/checkpoints/${nobody}`,
      "/checkpoints/1",
      "/checkpoints/%00",
    ]) {
      const answer = await get(path);
      expect([answer.status, answer.body.code], path).toEqual([404, "checkpoint_not_found"]);
    }
    expect((await get(`/sessions/${nobody}/checkpoints/1`)).body.code).toBe("session_not_found");
  });
});
