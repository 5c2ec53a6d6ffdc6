/** What checkpoints cost: the next one, and a page of them, as much as ever, however many the session has. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Queries } from "../../src/db/client.ts";
import { deleteCheckpoint } from "../../src/sessions/checkpoint-delete.ts";
import { listCheckpoints, readCheckpoint } from "../../src/sessions/checkpoint-read.ts";
import { restoreCheckpoint, saveCheckpoint } from "../../src/sessions/checkpoint-save.ts";
import { makeChanges } from "../../src/sessions/update.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { costOf } from "../support/plans.ts";

const context = { namespace: "default", requestId: "" };
const few = "00000000-0000-4000-8000-000000000001";
const many = "00000000-0000-4000-8000-000000000002";

/** A level of an index more, and a page that happens to be full; 10,000 checkpoints have hundreds of blocks. */
const slack = 12;

interface Plan {
  readonly "Node Type": string;
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
  readonly Plans?: readonly Plan[];
}

/** What is written after the answer is known, as events are, counts for no node above it. */
function writesOf(plan: Plan): number {
  const own = plan["Node Type"] === "ModifyTable" ? plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] : 0;
  return (plan.Plans ?? []).reduce((sum, below) => sum + writesOf(below), own);
}

type Command = (database: Queries, sessionId: string, number: number) => Promise<unknown>;

describe("of a session with 10,000 checkpoints, as of one with 10", () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    for (const [id, count] of [
      [few, 10],
      [many, 10_000],
    ] as const) {
      await database.sql`
        insert into sessions (id, agent_id, created_at, updated_at, last_activity_at, phase_since, version,
          checkpoint, last_checkpoint, checkpoint_count, lease_owner, lease_token, lease_expires_at, lease_seconds)
        select ${id}, gen_random_uuid(), t, t, t, t, ${count}, '{"n": 1}', ${count}, ${count}, 'w', 1,
          t + interval '1 hour', 3600
        from (select clock_timestamp()) now (t)`;
      await database.sql`
        insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
        select ${id}, n, gen_random_uuid(), jsonb_build_object('n', repeat('x', 200)), 210, n, clock_timestamp()
        from generate_series(1, ${count}::int) n`;
    }
    await database.sql`vacuum analyze`;
  });
  afterAll(() => database.drop());

  async function costOfOne(command: Command, id: string, number: number): Promise<number> {
    const asked: { text: string; parameters: readonly unknown[] }[] = [];
    const recorder = {
      query: async (text: string, parameters: readonly unknown[]) => {
        asked.push({ text, parameters });
        return [];
      },
    } as unknown as Queries;
    await command(recorder, id, number);
    const [first] = asked;
    if (first === undefined) throw new Error("nothing was asked");
    // What is absent is a null, which costOf would quote.
    const kept: unknown[] = [];
    const names = first.parameters.map((value) => (value === null ? "null" : `$${kept.push(value)}`));
    const text = first.text.replaceAll(/\$(\d+)/g, (_, number) => names[Number(number) - 1] ?? "");
    const { buffers, plan } = await costOf(database.sql, text, kept);
    return buffers + writesOf(JSON.parse(plan));
  }

  async function costOfSecond(...told: Parameters<typeof costOfOne>): Promise<number> {
    // The first reads the catalogue too.
    await costOfOne(...told);
    return costOfOne(...told);
  }

  let removed = 1;
  let documents = 1;
  const another = () => `{"n": ${++documents}}`;
  const asked = (sessionId: string) => ({ sessionId, label: "x" });
  it.each<[name: string, command: Command]>([
    [
      "PATCH {checkpoint}",
      (queries, id) => makeChanges(queries, [{ context, input: { id, leaseToken: 1, checkpoint: another() } }]),
    ],
    [
      "POST of a checkpoint",
      (queries, id) =>
        saveCheckpoint(queries, context, {
          ...asked(id),
          data: another(),
          type: "manual",
          checkpointNs: "",
          includeContext: true,
        }),
    ],
    [
      "restoring one",
      (queries, id) => restoreCheckpoint(queries, context, { ...asked(id), number: 5, restoreContext: false }),
    ],
    [
      "a page",
      (queries, sessionId, number) =>
        listCheckpoints(queries, context, {
          sessionId,
          withData: true,
          withContext: false,
          includeDeleted: false,
          limit: 5,
          before: number - 1,
        }),
    ],
    [
      "the latest",
      (queries, sessionId) =>
        readCheckpoint(queries, context, { which: { sessionId, latest: "" }, includeDeleted: false }),
    ],
    [
      "removing one",
      (queries, sessionId) => deleteCheckpoint(queries, context, { key: { sessionId, number: ++removed } }),
    ],
  ])("%s reads as many blocks", async (_, command) => {
    const small = await costOfSecond(command, few, 10);
    const large = await costOfSecond(command, many, 10_000);
    expect(small).toBeGreaterThan(2);
    expect(large).toBeLessThanOrEqual(small + slack);
  });
});
