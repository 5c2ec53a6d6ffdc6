/** What a document may weigh, and what weighs in it. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

describe("a document that is too large", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ CONTEXT_LIMIT_BYTES: "2000", CHECKPOINT_LIMIT_BYTES: "1100" });
  });
  afterAll(() => service.stop());

  const filled = (bytes: number) => ({ note: "n", text: "x".repeat(bytes - '{"note":"n","text":""}'.length) });

  it("413 names the limit, its size and its largest keys; one of just that size is taken", async () => {
    const create = (body: object) => service.request("POST", "/sessions/", { agent_id: agentId, ...body });
    expect((await create({ context: filled(2_000), checkpoint: filled(1_100) })).status).toBe(201);
    const context = await create({ context: filled(2_001) });
    expect(context.status).toBe(413);
    expect(context.body).toMatchObject({
      code: "document_too_large",
      limit_bytes: 2_000,
      bytes: 2_001,
      largest: [
        { key: "text", bytes: 1_981 },
        { key: "note", bytes: 3 },
      ],
    });
    expect(context.body.detail).toContain("CONTEXT_LIMIT_BYTES");
    const checkpoint = await create({ checkpoint: filled(1_101) });
    expect([checkpoint.status, checkpoint.body.limit_bytes]).toEqual([413, 1_100]);
    expect(checkpoint.body.detail).toContain("CHECKPOINT_LIMIT_BYTES");
  });

  it("413 on a change, of which nothing is done", async () => {
    const id = await service.create();
    const patch = (body: object) => service.request("PATCH", `/sessions/${id}`, body);
    expect((await patch({ checkpoint: filled(1_101), context: { a: 1 } })).status).toBe(413);
    expect((await patch({ checkpoint: { a: 1 }, context: filled(2_001) })).status).toBe(413);
    expect((await service.request("GET", `/sessions/${id}`)).body).toMatchObject({
      version: 1,
      context: {},
      checkpoint: null,
      checkpoint_count: 0,
    });
  });

  it("is none for the name of a key in a merge patch, which is the client's own", async () => {
    const id = await service.create();
    const merge = { "content-type": "application/merge-patch+json" };
    const answer = await service.request("PATCH", `/sessions/${id}/context`, { checkpoint: filled(1_500) }, merge);
    expect([answer.status, answer.body.context_bytes > 1_500]).toEqual([200, true]);
  });

  it("413 counts bytes, not characters", async () => {
    const answer = await service.request("POST", "/sessions/", {
      agent_id: agentId,
      context: { t: "ü".repeat(1_000) },
    });
    expect([answer.status, answer.body.bytes]).toEqual([413, 2_008]);
    const smaller = { agent_id: agentId, context: { t: "ü".repeat(990) } };
    expect((await service.request("POST", "/sessions/", smaller)).status).toBe(201);
  });
});

describe("GET /sessions/{id}/context/usage", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ CONTEXT_LIMIT_BYTES: "100000" });
  });
  afterAll(() => service.stop());

  it("200 with the bytes of each top-level key, the heaviest first", async () => {
    const context = { goal: "é", messages: [1, 2, { a: 1.0 }], empty: {} };
    const id = await service.create({ context });
    const { status, body } = await service.request("GET", `/sessions/${id}/context/usage/`);
    const session = (await service.request("GET", `/sessions/${id}`)).body;
    expect(status).toBe(200);
    expect(body).toEqual({
      context_bytes: session.context_bytes,
      limit_bytes: 100_000,
      members: 3,
      largest: [
        { key: "messages", bytes: '[1, 2, {"a": 1}]'.length },
        { key: "goal", bytes: 4 },
        { key: "empty", bytes: 2 },
      ],
    });
  });

  it("200 tells of the heaviest 100 of very many, and how many there are", async () => {
    const keys = Array.from({ length: 250 }, (_, n) => [`key ${n}`, "x".repeat(n)]);
    const id = await service.create({ context: Object.fromEntries(keys) });
    const { body } = await service.request("GET", `/sessions/${id}/context/usage`);
    expect(body.members).toBe(250);
    expect(body.largest).toHaveLength(100);
    expect(body.largest[0]).toEqual({ key: "key 249", bytes: 251 });
    expect((await service.request("GET", `/sessions/${await service.create()}/context/usage`)).body).toMatchObject({
      members: 0,
      largest: [],
    });
  });

  it("404 for a session that is not there, or deleted", async () => {
    const id = await service.create();
    await service.request("DELETE", `/sessions/${id}`);
    expect((await service.request("GET", `/sessions/${id}/context/usage`)).status).toBe(404);
    expect((await service.request("GET", "/sessions/x/context/usage")).status).toBe(404);
  });
});
