/** Large documents are not read member by member, and yet nothing gets in with them that must not. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

describe("a large document", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  const filler = `"filler":"${"lorem ipsum ".repeat(1_000)}"`;
  const create = (context: string) =>
    service.request("POST", "/sessions/", `{"agent_id":"${agentId}","context":${context},"session_type":"task"}`);

  it.each([
    ["a word that is none", "tru"],
    ["a number that begins with 0", "01"],
    ["a comma too many", "[1,]"],
    ["a key without a value", '{"a"}'],
    ["a bracket that closes nothing", "[1]]"],
    ["a line break in a string", '"\n"'],
    ["a control character between values", "[1,\u0001 2]"],
    ["an escape that is none", '"\\x"'],
  ])("with %s is no JSON: 400", async (_, flaw) => {
    const answer = await create(`{${filler},"x":${flaw},"y":1}`);
    expect([answer.status, answer.body.code], answer.text).toEqual([400, "malformed_json"]);
    expect(answer.body.detail).toMatch(/^The body is not JSON: /);
  });

  it.each([
    ["a NUL character", '"\\u0000"', "unstorable_text"],
    ["a lone surrogate", '"\\ud800"', "unstorable_text"],
    ["a number that is too large", "1e400", "number_out_of_range"],
  ])("with %s is refused, with a pointer to it: 422", async (_, flaw, code) => {
    const answer = await create(`{${filler},"x":[0,{"y":${flaw}}]}`);
    expect([answer.status, answer.body.code], answer.text).toEqual([422, code]);
    expect(answer.body.errors).toEqual([expect.objectContaining({ pointer: "/context/x/1/y" })]);
  });

  it("that is a list is refused as one: 422", async () => {
    const answer = await create(`[{${filler}}]`);
    expect(answer.status, answer.text).toBe(422);
    expect(answer.body.errors).toEqual([{ pointer: "/context", detail: "must be a JSON object" }]);
  });

  it("leaves what stands beside it as it was sent", async () => {
    const { status, body } = await create(`{${filler},"n":1,"deep":{"__proto__":[{}]}}`);
    expect([status, body.session_type, body.agent_id, body.context.n]).toEqual([201, "task", agentId, 1]);
    expect(Object.keys(body.context.deep)).toEqual(["__proto__"]);
  });
});
