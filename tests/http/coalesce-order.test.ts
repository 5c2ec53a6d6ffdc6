/** Changes of one session keep their order, each with its own version and event; a reader sees what was there before. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PipelinedClient } from "../support/pipelined-client.ts";
import { startTestService, type TestService } from "../support/service.ts";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

interface EventOfSession {
  readonly request: string;
  readonly sequence: number;
  readonly version: number;
}

describe.each(["on", "off"])("with COALESCE=%s", (coalesce) => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService({ COALESCE: coalesce });
  });
  afterAll(() => service.stop());

  const eventsOf = async (id: string) => [
    ...(await service.database.sql<EventOfSession[]>`
      select metadata ->> 'request_id' as request, sequence::int as sequence, session_version::int as version
      from events where session_id = ${id} and sequence > 1 order by sequence`),
  ];

  it("two connections that change the same sessions: no version is lost or given twice, and each event is its own", async () => {
    const clients = await Promise.all(numbers(2).map(() => PipelinedClient.connect(service.url)));
    for (let round = 0; round < 20; round++) {
      const ids = await Promise.all(numbers(3).map(() => service.create()));
      // Now of the documents alone, now of the status too: they are different statements.
      const bodies = numbers(12).map((n) =>
        n % 3 === 2 ? { status: n % 2 === 0 ? "paused" : "active" } : { context: { n } },
      );
      const answers = await Promise.all(
        clients.flatMap((client, who) =>
          bodies.flatMap((body, n) =>
            ids.map(async (id) => {
              const name = `${round}-${who}-${n}`;
              const path = n % 2 === 0 ? id : id.toUpperCase();
              const answer = await client.send(
                "PATCH",
                `/sessions/${path}`,
                { ...body, runtime_metadata: { name } },
                name,
              );
              expect(answer.status, answer.text).toBe(200);
              return { id, who, name, version: answer.body.version };
            }),
          ),
        ),
      );
      for (const id of ids) {
        const its = answers.filter((answer) => answer.id === id);
        const events = await eventsOf(id);
        expect(events.map(({ version }) => version)).toEqual(numbers(24).map((n) => n + 2));
        expect(events.map(({ sequence }) => sequence)).toEqual(numbers(24).map((n) => n + 2));
        const asAnswered = its.toSorted((a, b) => a.version - b.version).map(({ name }) => name);
        expect(events.map(({ request }) => request)).toEqual(asAnswered);
        if (coalesce === "off") continue;
        for (const who of [0, 1]) {
          const ofOne = its.filter((answer) => answer.who === who).map(({ version }) => version);
          expect(ofOne).toEqual(ofOne.toSorted((a, b) => a - b));
        }
      }
    }
    for (const client of clients) client.close();
  });

  it("events reported of one session by two connections: each report is one run of sequences, in its order", async () => {
    const clients = await Promise.all(numbers(2).map(() => PipelinedClient.connect(service.url)));
    const id = await service.create();
    const reports = await Promise.all(
      clients.flatMap((client, who) =>
        numbers(30).map(async (n) => {
          const sent = numbers(1 + (n % 3)).map((at) => ({ event_type: "step", payload: { who, n, at } }));
          const answer = await client.send("POST", `/sessions/${id}/events`, sent, `${who}-${n}`);
          expect(answer.status, answer.text).toBe(201);
          return { who, sequences: answer.body.map(({ sequence }: { sequence: number }) => sequence) as number[] };
        }),
      ),
    );
    const all = reports.flatMap(({ sequences }) => sequences).toSorted((a, b) => a - b);
    expect(all).toEqual(all.map((_, at) => at + 2));
    for (const { sequences } of reports) expect(sequences).toEqual(sequences.map((_, at) => (sequences[0] ?? 0) + at));
    if (coalesce === "on") {
      for (const who of [0, 1]) {
        const ofOne = reports.filter((report) => report.who === who).flatMap(({ sequences }) => sequences);
        expect(ofOne).toEqual(ofOne.toSorted((a, b) => a - b));
      }
    }
    for (const client of clients) client.close();
  });

  it("a get sees every change that was answered before it was sent, however many read the session meanwhile", async () => {
    const id = await service.create();
    let isOver = false;
    const read = async () => (await service.request("GET", `/sessions/${id}`)).body.version as number;
    const readers = numbers(12).map(async () => {
      for (let before = 1; !isOver; ) {
        const version = await read();
        expect(version).toBeGreaterThanOrEqual(before);
        before = version;
      }
    });
    for (let n = 0; n < 80; n++) {
      const changed = (await service.request("PATCH", `/sessions/${id}`, { context: { n } })).body.version;
      expect(changed).toBe(n + 2);
      expect(Math.min(...(await Promise.all([read(), read()])))).toBe(changed);
    }
    isOver = true;
    await Promise.all(readers);
  });
});
