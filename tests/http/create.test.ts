import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

describe("POST /sessions/", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());
  const post = (body: unknown, headers?: Record<string, string>) =>
    service.request("POST", "/sessions/", body, headers);

  it("201 gives the session, where it is found, and its version", async () => {
    const answer = await post({
      agent_id: agentId,
      session_type: "development",
      context: { task: "x" },
      runtime_backend: "local",
      runtime_metadata: { pid: 1 },
    });
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      agent_id: agentId,
      session_type: "development",
      status: "active",
      phase: "running",
      context: { task: "x" },
      checkpoint: null,
      runtime_backend: "local",
      runtime_metadata: { pid: 1 },
      version: 1,
      attempt: 1,
      ended_at: null,
    });
    expect(answer.body.created_at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(answer.body.updated_at).toBe(answer.body.created_at);
    expect(answer.headers.get("location")).toBe(`/sessions/${answer.body.id}`);
    expect(answer.headers.get("etag")).toBe('"1"');
  });

  it("201 fills in what is absent or null", async () => {
    for (const fields of [
      {},
      {
        session_type: null,
        context: null,
        checkpoint: null,
        runtime_backend: null,
        runtime_metadata: null,
        status: null,
      },
    ]) {
      const answer = await post({ agent_id: agentId, ...fields });
      expect(answer.status).toBe(201);
      expect(answer.body).toMatchObject({
        session_type: "conversation",
        status: "active",
        context: {},
        checkpoint: null,
        runtime_backend: "unknown",
        runtime_metadata: {},
      });
    }
  });
});
