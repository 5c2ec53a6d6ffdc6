/** What finding sessions costs among 100,000: as much as the page holds, however its statements were planned. */

import type postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Parameter, Queries } from "../../src/db/client.ts";
import { findSessions } from "../../src/sessions/find.ts";
import { countFacets, countSessions } from "../../src/sessions/find-count.ts";
import {
  type FindQuery,
  newestFirst,
  type Place,
  type SessionFilter,
  type Sort,
} from "../../src/sessions/find-query.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const context = { namespace: "default", requestId: "" };

const many = 100_000;

const id = (n: number) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;
const agent = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
const at = (n: number) => new Date(Date.UTC(2026, 0, 1) + n * 1000).toISOString().replace("Z", "000Z");
const placeOf = (n: number): Place => ({ key: at(n), id: id(n) });

/** Agent 1 has 20,000 sessions, each other 80. Old are crashed; and a few wait, far from each other. */
async function fill(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(`
    insert into sessions (id, agent_id, phase, session_type, runtime_backend, external_id, lease_owner, details,
      created_at, updated_at, last_activity_at, phase_since, ended_at)
    select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
      ('00000000-0000-4000-8000-' || lpad(case when n % 5 = 0 then '1' else (n % 1000 + 1)::text end, 12, '0'))::uuid,
      phase, case when n % 3 = 0 then 'task' when n between 2000 and 2200 then 'rare' else 'conversation' end,
      case when n between 1000 and 1100 then 'kubernetes' when n % 7 = 0 then 'unknown' else 'local' end,
      'ticket-' || n, case when n % 10 = 3 then 'worker-' || n % 1000 end,
      jsonb_build_object('name', case when n % 5 = 0 then 'Untitled' else 'name ' || lpad((n % 1250)::text, 4, '0') end,
        'labels', jsonb_strip_nulls(jsonb_build_object('env', case when n % 2 = 0 then 'prod' end,
          'team', case when n <= 2000 then 'old' end, 'rare', case when n % 500 = 0 then n::text end,
        'ticket', case when n % 4 = 0 then n::text end))),
      at, at, at, at, case when phase = 'crashed' then at end
    from generate_series(1, ${many}) n,
      lateral (select timestamptz '2026-01-01T00:00:00Z' + n * interval '1 second',
        case when n % 5000 = 77 then 'waiting_input' when n % 400 = 7 and n < 50000 then 'crashed' else 'running' end
      ) t (at, phase)`);
  await sql.unsafe(`
    insert into session_labels (session_id, key, value, created_at)
    select id, l.key, l.value, created_at from sessions, jsonb_each_text(details -> 'labels') l`);
}

interface Cost {
  /** Blocks of 8 KiB, of all statements. */
  readonly buffers: number;
  readonly removed: number;
  /** The most that one statement looked at. */
  readonly scanned: number;
  readonly statements: number;
  readonly plan: string;
}

interface PlanNode {
  readonly [name: string]: unknown;
  readonly Plans?: readonly PlanNode[];
}

const nodesOf = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

const prepared = new Map<string, string>();

/** Runs statements prepared as the pool prepares them, and tells what each read. */
function measuring(connection: postgres.ReservedSql): { readonly queries: Queries; readonly plans: PlanNode[] } {
  const plans: PlanNode[] = [];
  const query = async (text: string, parameters: readonly Parameter[] = []) => {
    let name = prepared.get(text);
    if (name === undefined) {
      name = `kept_${prepared.size}`;
      prepared.set(text, name);
      await connection.unsafe(`prepare ${name} (${parameters.map(() => "text").join(", ")}) as ${text}`);
    }
    const values = parameters.map((value) => `'${String(value).replaceAll("'", "''")}'`).join(", ");
    const [row] = await connection.unsafe(
      `explain (analyze, timing off, buffers, format json) execute ${name} (${values})`,
    );
    plans.push(row?.["QUERY PLAN"][0].Plan);
    return connection.unsafe(`execute ${name} (${values})`);
  };
  return { queries: { query } as unknown as Queries, plans };
}

async function costOf<Result>(
  connection: postgres.ReservedSql,
  run: (queries: Queries) => Promise<Result>,
): Promise<Cost & { readonly result: Result }> {
  const { queries, plans } = measuring(connection);
  const result = await run(queries);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const of = (node: PlanNode, name: string) => Number(node[name] ?? 0) * Number(node["Actual Loops"] ?? 1);
  const inAll = (plan: PlanNode, value: (node: PlanNode) => number) => sum(nodesOf(plan).map(value));
  const removed = (node: PlanNode) => ("Relation Name" in node ? sum(filtered.map((name) => of(node, name))) : 0);
  const looked = (node: PlanNode) => (node["Relation Name"] === "sessions" ? of(node, "Actual Rows") : 0);
  return {
    result,
    buffers: sum(plans.map((plan) => Number(plan["Shared Hit Blocks"]) + Number(plan["Shared Read Blocks"]))),
    removed: sum(plans.map((plan) => inAll(plan, removed))),
    scanned: Math.max(...plans.map((plan) => inAll(plan, looked))),
    statements: plans.length,
    plan: JSON.stringify(plans, null, 1),
  };
}

const filtered = ["Rows Removed by Filter", "Rows Removed by Join Filter", "Rows Removed by Index Recheck"];

const limit = 10;
const oldestFirst: Sort = { by: "created_at", descending: false };

/** The same in SQL, and a place deep in the walk. */
const filters: readonly [name: string, filter: SessionFilter, where: string, deep: number][] = [
  ["an agent's", { agentIds: [agent(1)] }, `agent_id = '${agent(1)}'`, 50_000],
  [
    "several agents'",
    { agentIds: [1, 2, 3, 4, 7].map(agent) },
    `agent_id in (${[1, 2, 3, 4, 7].map((n) => `'${agent(n)}'`)})`,
    50_000,
  ],
  ["of a status", { phases: ["running"] }, "phase = 'running'", 50_000],
  ["of a rare status", { phases: ["crashed"] }, "phase = 'crashed'", 20_000],
  ["of a type", { sessionTypes: ["task"] }, "session_type = 'task'", 50_000],
  ["of a rare type", { sessionTypes: ["rare"] }, "session_type = 'rare'", 2_100],
  [
    "of a type and a status",
    { sessionTypes: ["task"], phases: ["running"] },
    "session_type = 'task' and phase = 'running'",
    50_000,
  ],
  [
    "of a type and a rare status",
    { sessionTypes: ["conversation"], phases: ["crashed"] },
    "session_type = 'conversation' and phase = 'crashed'",
    20_000,
  ],
  ["of a backend", { runtimeBackends: ["local"] }, "runtime_backend = 'local'", 50_000],
  ["of a rare backend", { runtimeBackends: ["kubernetes"] }, "runtime_backend = 'kubernetes'", 1_050],
  ["of a name", { name: "name 0007" }, "details ->> 'name' = 'name 0007'", 50_007],
  ["of a name that many have", { name: "Untitled" }, "details ->> 'name' = 'Untitled'", 50_000],
  ["of a label's value", { labels: [{ key: "team", value: "old" }] }, "details #>> '{labels,team}' = 'old'", 1_000],
  [
    "of a label's value that many have",
    { labels: [{ key: "env", value: "prod" }] },
    "details #>> '{labels,env}' = 'prod'",
    50_000,
  ],
  ["of a label", { labels: [{ key: "rare" }] }, "details #> '{labels,rare}' is not null", 50_000],
  ["of a label that many have", { labels: [{ key: "env" }] }, "details #> '{labels,env}' is not null", 50_000],
  [
    "of a time",
    { createdAfter: at(30_000), createdBefore: at(70_000) },
    `created_at >= '${at(30_000)}' and created_at < '${at(70_000)}'`,
    50_000,
  ],
  [
    "of the end's time",
    { endedAfter: at(10_000), endedBefore: at(30_000) },
    `ended_at >= '${at(10_000)}' and ended_at < '${at(30_000)}'`,
    20_000,
  ],
  ["all", { includeDeleted: true }, "true", 50_000],
];

const sets: readonly [name: string, filter: SessionFilter, where: string][] = [
  ["of an external id", { externalId: "ticket-5000" }, "external_id = 'ticket-5000'"],
  ["of a worker", { leaseOwner: "worker-13" }, "lease_owner = 'worker-13'"],
  ["of a name that begins so", { namePrefix: "name 007" }, "starts_with(details ->> 'name', 'name 007')"],
];

const lately = { agentIds: [agent(1)], createdAfter: at(99_970) };
const aTicket = { labels: [{ key: "ticket", value: "5000" }] };

const sorts: readonly Sort[] = (["updated_at", "name"] as const).flatMap((by) => [
  { by, descending: true },
  { by, descending: false },
]);

const frequent = /many have|of a status|of a backend|of a type$|status$|agent|all/;
/** One of those that are frequent is enough: it takes a while to count them. */
const counts = [
  ...filters.filter(([name]) => name === "of a type" || name.includes("rare") || !frequent.test(name)),
  ...sets,
].map(([name, filter, where]) => [name, filter, where] as const);

type Query = Pick<FindQuery, "filter"> & Partial<FindQuery>;

const pages: readonly [name: string, query: Query][] = [
  ...filters.flatMap(([name, filter, , deep]): [string, Query][] =>
    [newestFirst, oldestFirst].flatMap((sort): [string, Query][] => [
      [`${name}, ${sort.descending ? "newest" : "oldest"} first`, { filter, sort }],
      [
        `${name}, ${sort.descending ? "newest" : "oldest"} first, from a cursor`,
        { filter, sort, after: placeOf(deep) },
      ],
    ]),
  ),
];
const ofFew: readonly [name: string, query: Query][] = [
  ...sets.map(([name, filter]): [string, Query] => [name, { filter }]),
  ["a large agent's of late, newest first", { filter: lately }],
  ["a large agent's of late, oldest first", { filter: lately, sort: oldestFirst }],
  ["of one of many values of a label, sorted by name", { filter: aTicket, sort: { by: "name", descending: true } }],
  ...sorts.map((sort): [string, Query] => [
    `an agent's, sorted by ${sort.by}, ${sort.descending ? "falling" : "rising"}`,
    { filter: { agentIds: [agent(7)] }, sort },
  ]),
];

const run = (query: Query) => (database: Queries) =>
  findSessions(database, context, { sort: newestFirst, limit, documents: true, ...query });

const few7 = { agentIds: [agent(7)] };
const env = { labels: [{ key: "env" }] };

/** What leaves few beside what leaves many: each serves the filter, and nobody knows which does it well. */
const beside: readonly [name: string, filter: SessionFilter][] = [
  ["an agent's with a label that many have", { ...few7, ...env }],
  ["a large agent's with a label that few have", { agentIds: [agent(1)], labels: [{ key: "rare", value: "500" }] }],
  ["of a frequent type on a rare backend", { sessionTypes: ["conversation"], runtimeBackends: ["kubernetes"] }],
  ["of a rare type on a frequent backend", { sessionTypes: ["rare"], runtimeBackends: ["local"] }],
  ["of a name that many have, an agent's", { name: "Untitled", ...few7 }],
];

describe("among 100,000 sessions", () => {
  let database: TestDatabase;
  let connection: postgres.ReservedSql;
  beforeAll(async () => {
    database = await createDatabase();
    connection = await database.sql.reserve();
    await connection`set plan_cache_mode = force_generic_plan`;
    await connection`set jit = off`;
    for (const [, query] of [...pages, ...ofFew]) await costOf(connection, run(query));
    for (const [, filter] of [...filters, ...sets]) {
      await costOf(connection, (queries) => countFacets(queries, context, filter));
    }
    await fill(connection);
  }, 60_000);
  afterAll(async () => {
    connection.release();
    await database.drop();
  });

  describe.each(["planned while there were none", "with fresh statistics"])("%s", (when) => {
    beforeAll(async () => {
      if (when.startsWith("with")) await connection`vacuum analyze`;
    });

    it.each(pages)("a page of ten, %s", async (_, query) => {
      const { result, ...cost } = await costOf(connection, run(query));
      expect(result?.sessions).toHaveLength(limit);
      expect(cost.statements).toBe(1);
      expect(cost.buffers, cost.plan).toBeLessThan(140);
      // What came to its end in a time is looked for by when it was made.
      expect(cost.removed, cost.plan).toBeLessThan(30);
      expect(cost.scanned, cost.plan).toBeLessThan(120);
    });

    it.each(ofFew)("a page of ten, %s: as much as there are of them", async (_, query) => {
      const { result, ...cost } = await costOf(connection, run(query));
      const { total } = await countFacets(measuring(connection).queries, context, query.filter);
      expect(result?.sessions).toHaveLength(Math.min(limit, total));
      expect(cost.statements).toBe(1);
      expect(cost.buffers, cost.plan).toBeLessThan(70 + 2 * total);
      expect(cost.removed, cost.plan).toBeLessThan(30 + total);
    });

    it.each(beside)("a page of ten, %s: by that which leaves few", async (_, filter) => {
      const { result, ...cost } = await costOf(connection, run({ filter }));
      expect(result?.next === undefined || result.sessions.length === limit).toBe(true);
      expect(cost.statements, cost.plan).toBeLessThanOrEqual(2);
      expect(cost.buffers, cost.plan).toBeLessThan(1_500);
      const counting = await costOf(connection, (queries) => countSessions(queries, context, filter));
      expect(counting.buffers, counting.plan).toBeLessThan(12_000);
    });

    it.each(counts)("counts %s: as much as there are of them", async (_, filter, where) => {
      const { result, ...cost } = await costOf(connection, (queries) => countFacets(queries, context, filter));
      const [row] = await connection.unsafe<{ count: number }[]>(`select count(*)::int from sessions where ${where}`);
      expect(result).toMatchObject({ total: row?.count, complete: true });
      expect(await countSessions(measuring(connection).queries, context, filter)).toBe(row?.count);
      expect(cost.buffers, cost.plan).toBeLessThan(100 + 5 * result.total);
      expect(cost.removed, cost.plan).toBeLessThan(100);
    });
  });

  it.each([
    ["the frequent status", { phases: ["waiting_input"] }, 12],
    ["frequent types", { phases: ["waiting_input"], sessionTypes: ["conversation", "task", "rare"] }, 20],
  ] as const)("finds all in a rare phase of %s, on short pages, by small looks", async (_, filter, most) => {
    const waiting = await connection`select id from sessions where phase = 'waiting_input' order by created_at desc`;
    const seen: string[] = [];
    let statements = 0;
    let after: Place | undefined;
    do {
      const { result, ...cost } = await costOf(connection, run({ filter, after }));
      // And those that the page has.
      expect(cost.scanned, cost.plan).toBeLessThanOrEqual(16_000 + limit + 1);
      statements += cost.statements;
      seen.push(...(result?.sessions ?? []).map((session) => session.id));
      after = result?.next;
    } while (after !== undefined);
    expect(seen).toEqual(waiting.map((session) => session["id"]));
    expect(statements).toBeLessThan(most);
  });
});
