import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { coalescing } from "../support/coalescing.ts";
import { agentId, startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

describe.each(coalescing)("external ids, COALESCE=%s", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());

  const byExternalId = (externalId: string) => `/sessions/by-external-id/${encodeURIComponent(externalId)}`;
  const put = (externalId: string, body: object = { agent_id: agentId }, headers?: Record<string, string>) =>
    service.request("PUT", byExternalId(externalId), body, headers);
  const get = (externalId: string, headers?: Record<string, string>) =>
    service.request("GET", byExternalId(externalId), undefined, headers);
  const remove = (externalId: string, query = "", headers?: Record<string, string>) =>
    service.request("DELETE", byExternalId(externalId) + query, undefined, headers);
  const patch = (id: string, body: object, headers?: Record<string, string>) =>
    service.request("PATCH", `/sessions/${id}`, body, headers);
  const post = (body: object, headers?: Record<string, string>) =>
    service.request("POST", "/sessions/", { agent_id: agentId, ...body }, headers);
  const eventsOf = (id: string) =>
    service.database.sql<{ event_type: string; payload: { updates?: string[] } }[]>`
      select event_type, payload from events where session_id = ${id} order by sequence`;
  const taken = (id: string) => ({ status: 409, body: { code: "external_id_taken", session_id: id } });

  describe("POST /sessions/ and PATCH /sessions/{id}", () => {
    it("201 shows it; without one, or with null, it is null", async () => {
      expect((await post({ external_id: "post-1" })).body.external_id).toBe("post-1");
      expect((await post({ external_id: null })).body.external_id).toBe(null);
      const { body } = await post({});
      expect(body.external_id).toBe(null);
      expect((await service.request("GET", `/sessions/${body.id}`)).body.external_id).toBe(null);
    });

    it("201 keeps the checkpoint, the settings, the details and the figures that come with it", async () => {
      const fields = { checkpoint: { step: 1 }, max_attempts: 7, name: "whole", labels: { a: "b" }, stats: { n: 1 } };
      const { status, body } = await post({ external_id: "whole", ...fields });
      expect([status, body]).toMatchObject([201, { external_id: "whole", checkpoint_count: 1, ...fields }]);
      const kept = await service.request("GET", `/sessions/${body.id}/checkpoints`);
      expect(kept.body).toHaveLength(1);
      expect((await eventsOf(body.id)).map((event) => event.event_type)).toEqual(["session.created"]);
    });

    it("409 external_id_taken, which names the session that has it, and nothing is created", async () => {
      const id = await service.create({ external_id: "post-2" });
      const answer = await post({ external_id: "post-2" });
      expect(answer).toMatchObject(taken(id));
      expect(answer.body.detail).toContain(id);
      const rows = await service.database.sql`select id from sessions where external_id = 'post-2'`;
      expect(rows).toHaveLength(1);
    });

    it("409 external_id_taken with an Idempotency-Key too; once it is free, the same request is done", async () => {
      const id = await service.create({ external_id: "post-3" });
      const headers = { "idempotency-key": `post-3-${coalesce}` };
      expect(await post({ external_id: "post-3" }, headers)).toMatchObject(taken(id));
      await service.request("DELETE", `/sessions/${id}`);
      const made = await post({ external_id: "post-3" }, headers);
      expect(made.status).toBe(201);
      const again = await post({ external_id: "post-3" }, headers);
      expect([again.status, again.body.id, again.headers.get("idempotent-replayed")]).toEqual([
        201,
        made.body.id,
        "true",
      ]);
    });

    it("422 for what is no text of 1 to 255 printable characters, with a pointer", async () => {
      const id = await service.create();
      for (const bad of ["", "x".repeat(256), "a\nb", "tab\t", "\u0007", "\u200e", "\ue000", 5, {}, ["a"], true]) {
        for (const answer of [await post({ external_id: bad }), await patch(id, { external_id: bad })]) {
          expect(answer, JSON.stringify(bad)).toMatchObject({
            status: 422,
            body: { code: "validation_failed", errors: [{ pointer: "/external_id" }] },
          });
        }
      }
      for (const bad of ["a\u0000b", "\ud800"]) {
        expect(await post({ external_id: bad })).toMatchObject({ status: 422, body: { code: "unstorable_text" } });
      }
    });

    it("200 sets, changes and clears it, each with an event that says so; to say it again is no change", async () => {
      const id = await service.create();
      for (const external_id of ["patch-1", "patch-2", null]) {
        const answer = await patch(id, { external_id });
        expect([answer.status, answer.body.external_id]).toEqual([200, external_id]);
        const again = await patch(id, { external_id });
        expect(again.headers.get("etag")).toBe(answer.headers.get("etag"));
      }
      const events = await eventsOf(id);
      expect(events.map(({ payload }) => payload.updates)).toEqual([undefined, ...Array(3).fill(["external_id"])]);
      expect((await put("patch-1")).status).toBe(201);
    });

    it("names it in `updates` where the Session schema has it", async () => {
      const id = await service.create();
      await patch(id, { name: "n", external_id: "patch-3", max_attempts: 9, status: "paused" });
      const [, event] = await eventsOf(id);
      expect(event?.payload.updates).toEqual(["status", "phase", "max_attempts", "external_id", "name"]);
    });

    it("409 external_id_taken, and nothing of the change is made", async () => {
      const owner = await service.create({ external_id: "patch-4" });
      const id = await service.create({ external_id: "patch-5" });
      expect(await patch(id, { external_id: "patch-4", context: { a: 1 }, name: "n" })).toMatchObject(taken(owner));
      const { body } = await service.request("GET", `/sessions/${id}`);
      expect(body).toMatchObject({ external_id: "patch-5", context: {}, name: null, version: 1 });
      // A version that is not the expected one is told first.
      expect((await patch(id, { external_id: "patch-4" }, { "if-match": '"9"' })).status).toBe(412);
      const merge = { "content-type": "application/merge-patch+json" };
      expect(await patch(id, { external_id: "patch-4", context: { a: 1 } }, merge)).toMatchObject(taken(owner));
    });
  });

  describe("PUT /sessions/by-external-id/{external_id}", () => {
    it("201 with the Location and the ETag of a new session, then 200 with the same one", async () => {
      const made = await put("put-1", { agent_id: agentId, session_type: "task", context: { a: 1 } });
      expect(made).toMatchObject({
        status: 201,
        body: { external_id: "put-1", session_type: "task", context: { a: 1 } },
      });
      expect(made.headers.get("location")).toBe(`/sessions/${made.body.id}`);
      expect(made.headers.get("etag")).toBe('"1"');
      const changed = await put("put-1", { context: { b: 1.0 }, name: "n" });
      expect(changed).toMatchObject({
        status: 200,
        body: { id: made.body.id, context: { b: 1 }, name: "n", version: 2 },
      });
      expect([changed.headers.get("location"), changed.headers.get("etag")]).toEqual([null, '"2"']);
      const events = await eventsOf(made.body.id);
      expect(events.map(({ event_type, payload }) => [event_type, payload.updates])).toEqual([
        ["session.created", undefined],
        ["session.updated", ["context", "name"]],
      ]);
    });

    it("200 changes nothing when it is sent again, not even the figures", async () => {
      const body = {
        agent_id: agentId,
        session_type: "task",
        status: "active",
        context: { n: 9007199254740993n.toString() },
        checkpoint: { step: 1 },
        stats: { iterations: 3 },
        stats_max: { memory: 5 },
        labels: { a: "b" },
        timeout: 60,
        external_id: "put-2",
      };
      const made = await put("put-2", body);
      expect(made.status).toBe(201);
      const again = await put("put-2", body);
      expect([again.status, again.text]).toEqual([200, made.text]);
    });

    it("200 leaves what is absent or null as it is, but clears what null clears", async () => {
      await put("put-3", {
        agent_id: agentId,
        context: { a: 1 },
        checkpoint: { step: 1 },
        name: "n",
        labels: { a: "b" },
      });
      const { body } = await put("put-3", { checkpoint: null, name: null, context: null, external_id: null });
      expect(body).toMatchObject({ checkpoint: null, name: null, context: { a: 1 }, labels: { a: "b" } });
      expect(body.external_id).toBe("put-3");
    });

    it("200 keeps every digit of a document", async () => {
      await put("put-4", { agent_id: agentId });
      const answer = await service.request("PUT", byExternalId("put-4"), '{"context":{"n":9007199254740993,"f":1.0}}');
      expect(answer.text).toMatch(/"context":\{"f": ?1\.0, ?"n": ?9007199254740993\}/);
    });

    it("422 creates nothing without an agent", async () => {
      expect(await put("put-5", { context: {} })).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/agent_id" }] },
      });
      expect((await get("put-5")).status).toBe(404);
    });

    it("422 for another agent_id or session_type than the session has, and for another external_id than the path's", async () => {
      await put("put-6", { agent_id: agentId, session_type: "task" });
      const other = "11111111-2222-4333-8444-555555555555";
      const answer = await put("put-6", { agent_id: other, session_type: "batch", name: "n" });
      expect(answer).toMatchObject({
        status: 422,
        body: { code: "validation_failed", errors: [{ pointer: "/agent_id" }, { pointer: "/session_type" }] },
      });
      expect(await put("put-6", { agent_id: agentId, external_id: "put-7" })).toMatchObject({
        status: 422,
        body: { errors: [{ pointer: "/external_id" }] },
      });
      expect((await get("put-6")).body.version).toBe(1);
      expect((await put("put-6", { agent_id: agentId.toUpperCase(), session_type: "task" })).status).toBe(200);
    });

    it("412 with If-None-Match: * when there is one, 201 when there is none", async () => {
      const createOnly = { "if-none-match": "*" };
      expect((await put("put-8", undefined, createOnly)).status).toBe(201);
      expect(await put("put-8", undefined, createOnly)).toMatchObject({
        status: 412,
        body: { code: "precondition_failed" },
      });
      await remove("put-8");
      expect((await put("put-8", undefined, createOnly)).status).toBe(201);
    });

    it("412 with If-Match when there is none, or one of another version", async () => {
      expect((await put("put-9", undefined, { "if-match": "*" })).status).toBe(412);
      expect((await get("put-9")).status).toBe(404);
      await put("put-9");
      expect((await put("put-9", { name: "n" }, { "if-match": '"7"' })).status).toBe(412);
      expect((await put("put-9", { name: "n" }, { "if-match": '"1"' })).body.version).toBe(2);
      expect((await put("put-9", { name: "m" }, { "if-match": "*" })).body.version).toBe(3);
    });

    it("409 when the session's phase does not lead to the one asked for", async () => {
      const { body } = await put("put-10");
      await patch(body.id, { status: "completed" });
      const answer = await put("put-10", { status: "active" });
      expect(answer).toMatchObject({ status: 409, body: { code: "invalid_transition", from: "completed" } });
    });

    it("409 lease_lost for a worker whose session is gone, or whose lease is", async () => {
      const token = { "lease-token": "1" };
      expect(await put("put-11", undefined, token)).toMatchObject({ status: 409, body: { code: "lease_lost" } });
      expect((await get("put-11")).status).toBe(404);
      await put("put-11");
      expect(await put("put-11", { name: "n" }, token)).toMatchObject({ status: 409, body: { code: "lease_lost" } });
    });

    it("413 for a context that is too large, 422 for unknown keys when the client is strict", async () => {
      const large = await put("put-12", { agent_id: agentId, context: { a: "x".repeat(8 * 1024 * 1024) } });
      expect(large.status).toBe(413);
      const strict = await put("put-12", { agent_id: agentId, nmae: "n" }, { prefer: "handling=strict" });
      expect(strict).toMatchObject({ status: 422, body: { errors: [{ pointer: "/nmae" }] } });
    });
  });

  describe("GET and HEAD", () => {
    it("200 as by its id, 304 with its version, 404 when no session has it", async () => {
      const { body } = await put("get-1", { agent_id: agentId, context: { a: 1 } });
      const byId = await service.request("GET", `/sessions/${body.id}?vocabulary=container`);
      const answer = await service.request("GET", `${byExternalId("get-1")}/?vocabulary=container`);
      expect([answer.status, answer.text]).toEqual([200, byId.text]);
      for (const name of ["etag", "content-type", "cache-control"]) {
        expect(answer.headers.get(name)).toBe(byId.headers.get(name));
      }
      expect((await get("get-1", { "if-none-match": '"1"' })).status).toBe(304);
      const head = await service.request("HEAD", byExternalId("get-1"));
      expect([head.status, head.text, head.headers.get("etag")]).toEqual([200, "", '"1"']);
      expect(await get("get-2")).toMatchObject({ status: 404, body: { code: "session_not_found" } });
      expect((await service.request("HEAD", byExternalId("get-2"))).status).toBe(404);
    });
  });

  describe("DELETE", () => {
    it("204 frees it for another session, while the row keeps its own; then it names nothing", async () => {
      const { body: first } = await put("delete-1");
      expect((await remove("delete-1")).status).toBe(204);
      expect((await remove("delete-1")).status).toBe(404);
      expect((await get("delete-1")).status).toBe(404);
      expect((await service.request("DELETE", `/sessions/${first.id}`)).status).toBe(204);
      const { status, body: second } = await put("delete-1");
      expect(status).toBe(201);
      const rows = await service.database.sql<{ id: string }[]>`
        select id from sessions where external_id = 'delete-1' order by id`;
      expect(rows.map(({ id }) => id)).toEqual([first.id, second.id]);
      expect(await post({ external_id: "delete-1" })).toMatchObject(taken(second.id));
    });

    it("204 with hard=true removes it", async () => {
      const { body } = await put("delete-2");
      expect((await remove("delete-2", "?hard=true")).status).toBe(204);
      const isGone = async () =>
        (await service.database.sql`select 1 from sessions where id = ${body.id}`).length === 0;
      await until(isGone, "the session to be removed");
    });

    it("412, 409 and 423 refuse as they do by its id", async () => {
      const { body } = await put("delete-3");
      expect((await remove("delete-3", "", { "if-match": '"9"' })).status).toBe(412);
      expect((await remove("delete-3", "", { "lease-token": "1" })).status).toBe(409);
      await service.database.sql`update sessions set legal_hold = true where id = ${body.id}`;
      expect(await remove("delete-3")).toMatchObject({ status: 423, body: { code: "legal_hold" } });
      expect((await get("delete-3")).status).toBe(200);
    });
  });
});
