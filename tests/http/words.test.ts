/** The words for a session's state: which a body may say, and which an answer says to who asks for a vocabulary. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { initialPhases, type Phase, phases, transitions } from "../../src/sessions/lifecycle.ts";
import { type DesignWord, designFields, designRows, designVocabularies, designWords } from "../support/phases.ts";
import { agentId, startTestService, type TestService } from "../support/service.ts";

const everyWord = designFields.flatMap((field) => designWords(field).map((word) => [field, word.word, word] as const));

const startsIn = ({ entry }: DesignWord) => (initialPhases as readonly Phase[]).includes(entry);

describe("words for the state of a session", () => {
  let service: TestService;
  let id: string;
  beforeAll(async () => {
    service = await startTestService();
    id = await service.create();
  });
  afterAll(() => service.stop());
  const create = (fields: object, query = "") =>
    service.request("POST", `/sessions/${query}`, { agent_id: agentId, ...fields });
  const patch = (body: object, query = "") => service.request("PATCH", `/sessions/${id}${query}`, body);
  /** Puts the session into a phase, whatever the table says. */
  const put = (phase: Phase) => service.database.sql`update sessions set phase = ${phase} where id = ${id}`;

  it.each(everyWord)("PATCH %s %s: 200 leaves a session that is what it says", async (field, _, { word, means }) => {
    for (const phase of means) {
      await put(phase);
      const before = await service.request("GET", `/sessions/${id}`);
      const answer = await patch({ [field]: word.toUpperCase() });
      expect([phase, answer.status, answer.text]).toEqual([phase, 200, before.text]);
    }
  });

  it.each(everyWord)(
    "PATCH %s %s: takes any other to its entry, or is 409 in the client's word",
    async (field, _, word) => {
      for (const from of phases.filter((phase) => !word.means.includes(phase))) {
        await put(from);
        const answer = await patch({ [field]: ` ${word.word.toLowerCase()} ` });
        if (transitions[from].includes(word.entry)) {
          expect([from, answer.status, answer.body.phase]).toEqual([from, 200, word.entry]);
        } else {
          const detail = expect.stringContaining(`Invalid state transition: ${from} → ${word.word}`);
          const body = { code: "invalid_transition", from, to: word.entry, detail };
          expect([from, answer]).toMatchObject([from, { status: 409, body }]);
        }
      }
    },
  );

  it.each(everyWord)(
    "POST %s %s: 201 where a session may start so, else 422 with the words that may",
    async (field, _, word) => {
      const answer = await create({ [field]: word.word.toLowerCase() });
      if (startsIn(word)) {
        expect(answer).toMatchObject({ status: 201, body: { phase: word.entry } });
        expect(answer.body).not.toHaveProperty("state");
      } else {
        expect(answer).toMatchObject({ status: 422, body: { code: "validation_failed" } });
        const [error, ...others] = answer.body.errors;
        expect([error.pointer, others]).toEqual([`/${field}`, []]);
        const taken = designWords(field).filter(startsIn);
        expect(wordsIn(error.detail)).toEqual(new Set(taken.map((one) => one.word)));
      }
    },
  );

  it.each(designFields)("422 for a %s that is no word, with all that it takes", async (field) => {
    await put("running");
    for (const text of ["done", "", " ", "__proto__", "constructor", "active,paused", 7, true, {}, ["active"]]) {
      const answer = await patch({ [field]: text });
      expect([text, answer]).toMatchObject([text, { status: 422, body: { errors: [{ pointer: `/${field}` }] } }]);
      const known = designWords(field).map(({ word }) => word);
      expect(wordsIn(answer.body.errors[0].detail)).toEqual(new Set(known));
      expect((await create({ [field]: text })).status).toBe(422);
    }
  });

  it("200 the finest word decides: phase before state, and state before status", async () => {
    for (const [body, phase] of [
      [{ status: "active", phase: "ready" }, "ready"],
      [{ status: "active", state: "BUSY" }, "busy"],
      [{ state: "BUSY", phase: "waiting_input" }, "waiting_input"],
      [{ status: "active", state: "READY", phase: "stopping" }, "stopping"],
      [{ status: null, state: null, phase: "ready" }, "ready"],
      [{ status: "active", state: null, phase: null }, "running"],
    ] as const) {
      await put("starting");
      if (phase === "waiting_input") await put("busy");
      if (phase === "running") await put("paused");
      expect([body, await patch(body)]).toMatchObject([body, { status: 200, body: { phase } }]);
    }
    expect(await create({ status: "active", state: "init", phase: "starting" })).toMatchObject({
      status: 201,
      body: { status: "active", phase: "starting" },
    });
    expect((await create({ status: "active", state: "init" })).body.phase).toBe("pending");
  });

  it("422 for words that contradict each other, at the one that would decide", async () => {
    await put("running");
    for (const [body, pointer, detail] of [
      [{ status: "paused", phase: "busy" }, "/phase", "is not within the status paused"],
      [{ status: "paused", state: "BUSY" }, "/state", "is not within the status paused"],
      [{ state: "READY", phase: "busy" }, "/phase", "is not within the state READY"],
      [{ status: "active", state: "ERROR", phase: "busy" }, "/phase", "is not within the state ERROR"],
      // Within the other's set, but not by the phase that it leads to.
      [{ status: "running", phase: "active", state: "BUSY" }, "/phase", "is not within the state BUSY"],
    ] as const) {
      const answer = await patch(body);
      expect([body, answer]).toMatchObject([body, { status: 422, body: { errors: [{ pointer, detail }] } }]);
    }
    const created = await create({ status: "pending", phase: "running" });
    expect(created).toMatchObject({ status: 422, body: { errors: [{ pointer: "/phase" }] } });
    expect((await service.request("GET", `/sessions/${id}`)).body.phase).toBe("running");
  });
});

describe("?vocabulary=", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it.each(designVocabularies)(
    "%s adds its word as state, after the phase, wherever a session is read",
    async (vocabulary) => {
      const id = await service.create();
      for (const { phase, [vocabulary]: state } of designRows) {
        await service.database.sql`update sessions set phase = ${phase} where id = ${id}`;
        const plain = (await service.request("GET", `/sessions/${id}`)).text;
        const told = plain.replace(`"phase":"${phase}",`, `"phase":"${phase}","state":"${state}",`);
        expect(told).not.toBe(plain);
        const read = (path: string) => service.request("GET", `/sessions/${path}vocabulary=${vocabulary}`);
        expect((await read(`${id}?`)).text).toBe(told);
        expect((await read(`${id}/wait?timeout=0&after_version=0&`)).text).toBe(told);
        expect((await read("?limit=1&")).text).toBe(`[${told}]`);
      }
    },
  );

  it("is heeded by a create and its repetition, and by a change", async () => {
    const key = { "idempotency-key": "in-words" };
    const post = (query: string) => service.request("POST", `/sessions/${query}`, { agent_id: agentId }, key);
    const created = await post("?vocabulary=operator");
    expect(created).toMatchObject({ status: 201, body: { phase: "running", state: "Running" } });
    expect((await post("?vocabulary=operator")).text).toBe(created.text);
    expect(await post("?vocabulary=coding")).toMatchObject({ status: 422, body: { code: "idempotency_key_reused" } });
    const path = `/sessions/${created.body.id}?vocabulary=container`;
    expect(await service.request("PATCH", path, { state: "busy" })).toMatchObject({
      status: 200,
      body: { phase: "busy", state: "BUSY", version: 2 },
    });
  });

  it("changes neither the version nor what is stored", async () => {
    const id = await service.create();
    const read = await service.request("GET", `/sessions/${id}?vocabulary=coding`, undefined, {
      "if-none-match": '"1"',
    });
    expect([read.status, read.headers.get("etag")]).toEqual([304, '"1"']);
  });

  it("422 for a vocabulary that there is not, with those there are, before anything is done", async () => {
    const id = await service.create();
    const before = (await service.request("GET", "/sessions/")).text;
    for (const value of ["", "latin", "Coding", "__proto__", "coding,operator", "coding&vocabulary=coding"]) {
      for (const [method, path, body] of [
        ["GET", `/sessions/${id}`, undefined],
        ["GET", `/sessions/${id}/wait`, undefined],
        ["GET", "/sessions/", undefined],
        ["POST", "/sessions/", { agent_id: agentId }],
        ["PATCH", `/sessions/${id}`, { status: "paused" }],
      ] as const) {
        const answer = await service.request(method, `${path}?vocabulary=${value}`, body);
        const errors = [{ parameter: "vocabulary", detail: "must be one of coding, container, operator" }];
        expect([value, method, answer]).toMatchObject([value, method, { status: 422, body: { errors } }]);
      }
    }
    expect((await service.request("GET", "/sessions/")).text).toBe(before);
  });
});

/** The words that a problem lists after "must be one of". */
function wordsIn(detail: string): Set<string> {
  return new Set(/^must be one of (.+)$/.exec(detail)?.[1]?.split(", "));
}
