/** GET /sessions/{id}?include_deleted=true shows a session that was deleted, for as long as it has not been removed. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const read = (id: string, query = "?include_deleted=true", headers?: Record<string, string>) =>
  service.request("GET", `/sessions/${id}${query}`, undefined, headers);
const remove = (id: string, query = "") => service.request("DELETE", `/sessions/${id}${query}`);

it("200 with all that it was, when it was deleted, and its version; 404 to whoever does not ask", async () => {
  const id = await service.create({ context: { n: "1.0" }, name: "x" });
  const before = (await read(id, "")).body;
  expect(before.deleted_at).toBe(null);
  await remove(id);
  const answer = await read(id);
  expect(answer.status).toBe(200);
  expect(answer.body).toEqual({
    ...before,
    version: 2,
    deleted_at: answer.body.updated_at,
    updated_at: answer.body.updated_at,
  });
  expect(answer.headers.get("etag")).toBe('"2"');
  for (const query of ["", "?include_deleted=false"]) expect((await read(id, query)).status).toBe(404);
});

it("200 for one that is not deleted, as without it; 304 for a version that the client has", async () => {
  const id = await service.create();
  expect((await read(id)).text).toBe((await read(id, "")).text);
  await remove(id);
  expect((await read(id, "?include_deleted=TRUE", { "if-none-match": '"2"' })).status).toBe(304);
  expect((await read(id, "?include_deleted=true&vocabulary=container")).body.state).toBe("READY");
  expect((await service.request("HEAD", `/sessions/${id}?include_deleted=true`)).status).toBe(200);
});

it("404 where there never was one, and once it has been removed", async () => {
  const id = await service.create();
  await remove(id, "?hard=true");
  await until(async () => (await read(id)).status === 404, "the session to be gone");
  expect((await read("0198c0de-7c4a-7b1e-9d53-2f1f6f3c8a10")).status).toBe(404);
});

it("422 when it is neither true nor false, or given twice", async () => {
  const id = await service.create();
  for (const query of ["?include_deleted=maybe", "?include_deleted=", "?include_deleted=true&include_deleted=true"]) {
    expect(await read(id, query), query).toMatchObject({
      status: 422,
      body: { errors: [{ parameter: "include_deleted" }] },
    });
  }
});
