/** Nobody's edit of a context undoes another's: raced, over two services on one database. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Replica, startReplica } from "../support/replica.ts";
import { send, startTestService, type TestService } from "../support/service.ts";

const writers = 100;
const numbers = Array.from({ length: writers }, (_, n) => n);

describe("edits of one context at the same time", () => {
  let service: TestService;
  let other: Replica;
  beforeAll(async () => {
    service = await startTestService();
    other = await startReplica(service);
  });
  afterAll(async () => {
    await other.stop();
    await service.stop();
  });
  const at = (n: number, path: string) => `${n % 2 === 0 ? service.url : other.url}${path}`;
  const session = async (id: string) => (await service.request("GET", `/sessions/${id}`)).body;

  it("100 writers that merge different keys lose nothing, each change one version and one event", async () => {
    const id = await service.create({ context: { kept: true, shared: {} } });
    const answers = await Promise.all(
      numbers.map((n) =>
        n % 3 === 0
          ? send(
              at(n, `/sessions/${id}`),
              "PATCH",
              { context: { shared: { [`k${n}`]: n } } },
              { "content-type": "application/merge-patch+json" },
            )
          : send(
              at(n, `/sessions/${id}/context`),
              "PATCH",
              { shared: { [`k${n}`]: n } },
              { "content-type": "application/merge-patch+json" },
            ),
      ),
    );
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    const { context, version } = await session(id);
    expect(context).toEqual({ kept: true, shared: Object.fromEntries(numbers.map((n) => [`k${n}`, n])) });
    expect(version).toBe(1 + writers);
    const events = await service.database.sql`select sequence from events where session_id = ${id} order by sequence`;
    expect(events.map(({ sequence }) => Number(sequence))).toEqual(
      Array.from({ length: writers + 1 }, (_, n) => n + 1),
    );
  });

  it("100 writers that append, each by a JSON Patch, lose nothing", async () => {
    const id = await service.create({ context: { list: [] } });
    const answers = await Promise.all(
      numbers.map((n) =>
        send(at(n, `/sessions/${id}/context`), "PATCH", [{ op: "add", path: "/list/-", value: n }], {
          "content-type": "application/json-patch+json",
        }),
      ),
    );
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
    const { context } = await session(id);
    expect([...context.list].sort((a, b) => a - b)).toEqual(numbers);
  });

  it("100 writers that add to one number add up", async () => {
    const id = await service.create({ context: { n: 0.5 } });
    const answers = await Promise.all(
      numbers.map((n) => send(at(n, `/sessions/${id}/context/increment`), "POST", { "/n": 1, [`/of/${n}`]: 1 })),
    );
    expect(answers.every(({ body }) => body.code === "not_a_number")).toBe(true);
    await Promise.all(numbers.map((n) => send(at(n, `/sessions/${id}/context/increment`), "POST", { "/n": 1 })));
    expect((await session(id)).context).toEqual({ n: writers + 0.5 });
  });

  it("of 100 that test and set one value one wins, the others are told", async () => {
    const id = await service.create({ context: { owner: null } });
    const answers = await Promise.all(
      numbers.map((n) =>
        send(
          at(n, `/sessions/${id}/context`),
          "PATCH",
          [
            { op: "test", path: "/owner", value: null },
            { op: "replace", path: "/owner", value: n },
          ],
          { "content-type": "application/json-patch+json" },
        ),
      ),
    );
    const winners = answers.filter(({ status }) => status === 200);
    expect(winners).toHaveLength(1);
    expect(answers.filter(({ body }) => body.code === "json_patch_test_failed")).toHaveLength(writers - 1);
    expect((await session(id)).context).toEqual(winners[0]?.body.context);
  });

  it("edits of many sessions at once travel together, each its own", async () => {
    const ids = await Promise.all(numbers.map((n) => service.create({ context: { n } })));
    const answers = await Promise.all(
      ids.map((id, n) =>
        send(
          at(n, `/sessions/${id}/context`),
          "PATCH",
          { m: n, ...(n % 2 === 0 ? { n: null } : {}) },
          {
            "content-type": "application/merge-patch+json",
          },
        ),
      ),
    );
    expect(answers.map(({ body }) => body.context)).toEqual(numbers.map((n) => (n % 2 === 0 ? { m: n } : { n, m: n })));
  });
});
