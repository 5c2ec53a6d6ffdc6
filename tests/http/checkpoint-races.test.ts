/** Who saves checkpoints at the same time: each has its number, its version and its event, and none is lost. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

const upTo = (count: number) => Array.from({ length: count }, (_, n) => n + 1);
const save = (id: string, body: unknown, headers?: Record<string, string>) =>
  service.request("POST", `/sessions/${id}/checkpoints`, body, headers);

interface Saved {
  readonly id: string;
  readonly number: number;
  readonly session_version: number;
  readonly data: { readonly writer: number };
}

async function historyOf(id: string): Promise<Saved[]> {
  const answer = await service.request("GET", `/sessions/${id}/checkpoints?include=data`);
  return answer.body.toReversed();
}

/** Every checkpoint has the id and the version of an event of its own, in the same order. */
async function expectOneEventEach(id: string, history: readonly Saved[]): Promise<void> {
  const events: { event_id: string; session_version: number; payload: { updates?: string[] } }[] = (
    await service.request("GET", `/sessions/${id}/events?limit=1000`)
  ).body;
  const saving = events.filter(({ payload }) => payload.updates?.includes("checkpoint"));
  expect(saving.map((event) => [event.event_id, event.session_version])).toEqual(
    history.map((one) => [one.id, one.session_version]),
  );
}

describe("writers of checkpoints at the same time", () => {
  it("of 50 that POST, each has a number of 1 to 50, a version and an event; the session shows the last", async () => {
    const id = await service.create();
    const answers = await Promise.all(upTo(50).map((writer) => save(id, { data: { writer } })));
    expect(answers.map(({ status }) => status)).toEqual(Array(50).fill(201));
    const byNumber: Saved[] = answers.map(({ body }) => body).toSorted((a, b) => a.number - b.number);
    expect(byNumber.map(({ number }) => number)).toEqual(upTo(50));
    expect(byNumber.map((one) => one.session_version)).toEqual(upTo(50).map((n) => n + 1));
    const history = await historyOf(id);
    expect(history.map(({ id: checkpoint }) => checkpoint)).toEqual(byNumber.map(({ id: checkpoint }) => checkpoint));
    await expectOneEventEach(id, history);
    const session = (await service.request("GET", `/sessions/${id}`)).body;
    expect(session).toMatchObject({ version: 51, checkpoint_count: 50, checkpoint: byNumber.at(-1)?.data });
  });

  it("50 that POST, PATCH and restore, some with a key of their own, lose nothing either", async () => {
    const id = await service.create({ checkpoint: { writer: 0 } });
    const answers = await Promise.all(
      upTo(50).map((writer) => {
        if (writer % 5 === 0) return service.request("POST", `/sessions/${id}/checkpoints/1/restore`);
        if (writer % 2 === 0) return service.request("PATCH", `/sessions/${id}`, { checkpoint: { writer } });
        return save(id, { data: { writer } }, writer % 3 === 0 ? { "idempotency-key": `race-${writer}` } : {});
      }),
    );
    expect(answers.filter(({ status }) => status >= 300)).toEqual([]);
    const [first, ...history] = await historyOf(id);
    expect(first).toMatchObject({ number: 1, session_version: 1 });
    expect(history.map(({ number }) => number)).toEqual(upTo(50).map((n) => n + 1));
    expect(history.map((one) => one.session_version)).toEqual(upTo(50).map((n) => n + 1));
    const writers = upTo(50).map((writer) => (writer % 5 === 0 ? 0 : writer));
    expect(history.map(({ data }) => data.writer).toSorted((a, b) => a - b)).toEqual(writers.toSorted((a, b) => a - b));
    await expectOneEventEach(id, history);
    const session = (await service.request("GET", `/sessions/${id}`)).body;
    expect(session).toMatchObject({ version: 51, checkpoint_count: 51, checkpoint: history.at(-1)?.data });
  });

  it("of 20 with the same If-Match one saves", async () => {
    const id = await service.create();
    const answers = await Promise.all(upTo(20).map((writer) => save(id, { data: { writer } }, { "if-match": '"1"' })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array(19).fill(412)]);
    expect(await historyOf(id)).toHaveLength(1);
  });

  it("what is removed while others save is never what the session shows", async () => {
    const id = await service.create({ checkpoint: { writer: 0 } });
    const answers = await Promise.all(
      upTo(40).map((writer) =>
        writer % 2 === 0
          ? save(id, { data: { writer } })
          : service.request("DELETE", `/sessions/${id}/checkpoints/${Math.ceil(writer / 4)}`),
      ),
    );
    for (const { status } of answers) expect([201, 204, 404, 409]).toContain(status);
    const history = await historyOf(id);
    const session = (await service.request("GET", `/sessions/${id}`)).body;
    expect(session).toMatchObject({ checkpoint: history.at(-1)?.data, checkpoint_count: history.length });
    expect(history.at(-1)?.number).toBe(21);
  });
});
