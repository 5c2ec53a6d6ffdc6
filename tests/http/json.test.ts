/** Documents come back as they were sent, through the database and out again. */

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { agentId, startTestService, type TestService } from "../support/service.ts";

describe("documents", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  /** The text of the context in the answer to a POST, a PATCH, a GET and a list: four times the same. */
  async function echo(context: string): Promise<string> {
    const created = await service.request("POST", "/sessions/", `{"agent_id":"${agentId}","context":${context}}`);
    expect(created.status, created.text).toBe(201);
    const { id } = created.body;
    await service.request("PATCH", `/sessions/${id}`, { context: {} });
    const patched = await service.request("PATCH", `/sessions/${id}`, `{"context":${context},"checkpoint":${context}}`);
    const read = await service.request("GET", `/sessions/${id}`);
    const listed = await service.request("GET", "/sessions/?limit=1");
    const texts = [created, patched, read, listed].map(
      ({ text }) => /"context":(.*?),"checkpoint":/s.exec(text)?.[1] ?? "",
    );
    expect(new Set(texts).size).toBe(1);
    expect(/"checkpoint":(.*?),"runtime_backend":/s.exec(read.text)?.[1]).toBe(texts[0]);
    return texts[0] ?? "";
  }

  it.each([
    ["integers beyond 2^53", "90071992547409931"],
    ["negative integers beyond 2^53", "-123456789012345678901234567890"],
    ["trailing zeros", "1.0"],
    ["more of them", "0.1000"],
    ["400 digits", "9".repeat(400)],
    ["small numbers", "0.000000000000000000000000000001"],
  ])("keep %s", async (_, number) => {
    expect(await echo(`{"n":${number}}`)).toBe(`{"n": ${number}}`);
  });

  it("write exponents out", async () => {
    expect(await echo('{"n":1e2}')).toBe('{"n": 100}');
    expect(await echo('{"n":1.5E-3}')).toBe('{"n": 0.0015}');
  });

  it("keep keys that JavaScript would trip over", async () => {
    const context =
      '{"__proto__": {"polluted": true}, "constructor": {"prototype": 1}, "toString": null, "hasOwnProperty": 1}';
    const text = await echo(context);
    expect(JSON.parse(text)).toEqual(JSON.parse(context));
    expect(text).toContain('"__proto__": {"polluted": true}');
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  });

  it("keep nested nulls, empty objects and arrays, and any Unicode", async () => {
    const context = {
      a: { b: null, c: [null, {}, []], "": "" },
      "ключ 🔑": '\u2028\u2029\ufeff\uffff\u007f\b\f\n\r\t"\\/ 👩‍👩‍👧',
    };
    expect(JSON.parse(await echo(JSON.stringify(context)))).toEqual(context);
  });

  it("come back equal, whatever they are", async () => {
    const storable = fc
      .string({ unit: "binary", maxLength: 10 })
      .map((text) => text.toWellFormed().replaceAll("\0", ""));
    const documents = fc.dictionary(
      storable,
      fc.jsonValue({ noUnicodeString: false, maxDepth: 4 }).map((value) =>
        JSON.parse(
          JSON.stringify(value)
            .toWellFormed()
            .replace(/\\u0000|\\ud[89a-f][0-9a-f]{2}/gi, ""),
        ),
      ),
      { noNullPrototype: false },
    );
    await fc.assert(
      fc.asyncProperty(documents, async (context) => {
        const sent = JSON.stringify(context);
        fc.pre(!/\\u0000|e[-+]?[34]\d\d/.test(sent));
        expect(JSON.parse(await echo(sent))).toEqual(JSON.parse(sent.replace(/-0([,}\]])/g, "0$1")));
      }),
      { numRuns: 60 },
    );
  });

  it("of 4 MB come back whole", async () => {
    const context = { list: Array.from({ length: 42_000 }, (_, n) => ({ n, text: `entry ${n} ${"x".repeat(60)}` })) };
    const text = JSON.stringify(context);
    expect(text.length).toBeGreaterThan(3_900_000);
    expect(JSON.parse(await echo(text))).toEqual(context);
  });

  it("are weighed at write, in the bytes that answers spell them with", async () => {
    const created = await service.request("POST", "/sessions/", {
      agent_id: agentId,
      context: { ü: 1 },
      runtime_metadata: { pid: 12 },
    });
    const weigh = async () =>
      (
        await service.database.sql`
      select context_bytes, checkpoint_bytes, runtime_metadata_bytes from sessions where id = ${created.body.id}`
      )[0];
    expect(await weigh()).toEqual({ context_bytes: 9, checkpoint_bytes: 0, runtime_metadata_bytes: 11 });
    await service.request("PATCH", `/sessions/${created.body.id}`, { checkpoint: { a: [1, 2] } });
    expect(await weigh()).toMatchObject({ context_bytes: 9, checkpoint_bytes: 13 });
    await service.request("PATCH", `/sessions/${created.body.id}`, { checkpoint: null, context: {} });
    expect(await weigh()).toMatchObject({ context_bytes: 2, checkpoint_bytes: 0 });
  });
});
