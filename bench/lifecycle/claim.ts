/** What a claim costs: in a large table and in a small one, with every filter; and how fast a heap of work is given out. */

import { Agent, request } from "undici";
import { type ClaimFilter, claimSessions, claimStatements, lookForClaimable } from "../../src/sessions/claim.ts";
import { costOf } from "../../tests/support/plans.ts";
import { startPostgresServer } from "../../tests/support/postgres-server.ts";
import { openStage } from "../events/stage.ts";
import { median, spread } from "../figures.ts";
import { line, ms, title, verdict } from "./print.ts";
import { openTable, type Table } from "./table.ts";

const expected = { ratioToSmall: 1.2, perSecond: 1_000 };

const agent = "00000000-0000-4000-8000-000000000007";
const smallTable = 10_000;
/** So many wait to be claimed, in either table. */
const waiting = 5_000;

function openClaimTable(serverUrl: string, rows: number): Promise<Table> {
  return openTable(serverUrl, {
    name: "claim",
    rows,
    poolSize: 1,
    fill: async (sql) => {
      const every = rows / (waiting * 2);
      // Most are over; some wait, of whom a few may be claimed, and the others not before tomorrow.
      await sql`
    insert into sessions (id, agent_id, session_type, runtime_backend, phase, context, created_at, updated_at,
      last_activity_at, phase_since, claimable_at, scheduled_at, details)
    select gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad((number / 2 % 10)::text, 12, '0'))::uuid, 'task',
      'local', case when waits then 'pending' else 'completed' end, jsonb_build_object('task', repeat('x', 200)),
      now(), now(), now(), now(), case when waits then at end, case when waits and at > now() then at end,
      '{"labels": {"team": "search"}}'
    from generate_series(1, ${rows}::int) i
    cross join lateral (select i % ${every}::int = 0 as waits, i / ${every}::int as number) w
    cross join lateral (
      select case when number % 2 = 0 then now() - interval '1 h' else now() + interval '1 day' end as at) s`;
    },
  });
}

async function timedClaims({ database }: Table, filter: ClaimFilter, finds: boolean): Promise<number> {
  const context = { namespace: "default", requestId: "bench" };
  const times: number[] = [];
  for (let at = 0; at < 20; at++) {
    const began = performance.now();
    const [claimed] = await claimSessions(database, [
      { context, input: { workerId: "worker", leaseSeconds: 30, filter } },
    ]);
    times.push(performance.now() - began);
    if ((claimed !== undefined) !== finds) throw new Error(`a claim found ${claimed === undefined ? "none" : "one"}`);
  }
  return median(times);
}

/** Measures, prints, and says what it was to be. */
export async function benchClaim({ quick }: { readonly quick: boolean }): Promise<void> {
  const rows = quick ? 100_000 : 1_000_000;
  {
    await using server = await startPostgresServer();
    await using small = await openClaimTable(server.url, smallTable);
    await using large = await openClaimTable(server.url, rows);
    await compare(small, large, quick ? 5 : 10);
    await showPlans(large);
    await look(large);
  }
  await giveOut(quick ? 2_000 : 10_000);
}

async function compare(small: Table, large: Table, rounds: number): Promise<void> {
  title(`A claim alone, ${rounds} rounds of 20 by turns: the statement, in milliseconds`);
  line("", `of ${small.rows}`, `of ${large.rows}`, "large to small");
  const filters: Readonly<Record<string, readonly [ClaimFilter, boolean]>> = {
    any: [{}, true],
    "of an agent": [{ agentId: agent }, true],
    "with a label": [{ labels: '{"team":"search"}' }, true],
    "none there, of an agent": [{ agentId: "00000000-0000-4000-8000-00000000ffff" }, false],
  };
  for (const [name, [filter, finds]] of Object.entries(filters)) {
    const times = { small: [] as number[], large: [] as number[] };
    for (const table of [small, large]) await timedClaims(table, filter, finds);
    for (let round = 0; round < rounds; round++) {
      times.small.push(await timedClaims(small, filter, finds));
      times.large.push(await timedClaims(large, filter, finds));
    }
    const ratio = median(times.large) / median(times.small);
    line(name, ms(median(times.small)), ms(median(times.large)), ratio.toFixed(2));
    verdict(name, ratio <= expected.ratioToSmall, `at most ${expected.ratioToSmall} of the small table's`);
  }
}

async function showPlans(table: Table): Promise<void> {
  const asked = JSON.stringify([
    { event_id: "00000000-0000-4000-8000-000000000000", metadata: {}, worker_id: "w", lease_seconds: 30 },
  ]);
  for (const [name, statement, more] of [
    ["of any session", claimStatements.ofAny, []],
    ["of an agent", claimStatements.ofAgent, [agent]],
  ] as const) {
    const cost = await costOf(table.sql, statement, ["default", asked, "task", "local", "{}", ...more]);
    title(`How a claim ${name} reads ${table.rows} sessions: ${cost.buffers} blocks`);
    verdict("index", /"Index Name": "sessions_claimable/.test(cost.plan), "by an index of what may be claimed");
    verdict("no scan", !/Seq Scan"[^{}]*"Relation Name": "sessions"/.test(cost.plan), "never reads the whole table");
  }
}

/** Workers that wait for different things: whether there is anything is asked about once a second, for all of them. */
async function look({ database, rows }: Table): Promise<void> {
  const nobody = (at: number) => `00000000-0000-4000-8000-${String(at).padStart(12, "f")}`;
  const kinds: Readonly<Record<string, (at: number) => ClaimFilter>> = {
    "of agents that have none": (at) => ({ agentId: nobody(at) }),
    "of agents that have one": () => ({ agentId: agent }),
    "of types that nobody has": (at) => ({ sessionType: `type-${at}` }),
  };
  title(`A look for 100 filters, of ${rows} sessions`);
  for (const [name, filterOf] of Object.entries(kinds)) {
    const filters = Array.from({ length: 100 }, (_, at) => filterOf(at));
    const times: number[] = [];
    for (let round = 0; round < 10; round++) {
      const began = performance.now();
      await lookForClaimable(database, "default", filters);
      times.push(performance.now() - began);
    }
    line(name, ms(median(times)), spread(times, ms));
  }
}

/** Twenty workers, each claiming again and again, until nothing is left. */
async function giveOut(count: number): Promise<void> {
  await using stage = await openStage();
  const service = await stage.serve();
  const dispatcher = new Agent({ connections: 32 });
  const post = async (path: string, body: object) => {
    const headers = { "content-type": "application/json" };
    const answer = await request(`${service.url}${path}`, {
      method: "POST",
      dispatcher,
      headers,
      body: JSON.stringify(body),
    });
    await answer.body.dump();
    if (answer.statusCode >= 300) throw new Error(`POST ${path} answered ${answer.statusCode}`);
    return answer.statusCode;
  };
  const rates: number[] = [];
  for (let round = 0; round < 3; round++) {
    let left = count;
    const create = async () => {
      while (left-- > 0) await post("/sessions/", { agent_id: agent, phase: "pending", context: { round } });
    };
    await Promise.all(Array.from({ length: 32 }, create));
    const began = performance.now();
    const work = async (worker: number) => {
      while ((await post("/sessions/claim", { worker_id: `worker-${worker}` })) === 200);
    };
    await Promise.all(Array.from({ length: 20 }, (_, worker) => work(worker)));
    rates.push((count / (performance.now() - began)) * 1_000);
  }
  await dispatcher.destroy();
  const perSecond = (rate: number) => `${Math.round(rate)}/s`;
  title(`${count} sessions given out to 20 workers over HTTP, 3 rounds`);
  line("claims", perSecond(median(rates)), spread(rates, perSecond));
  verdict("claims", median(rates) >= expected.perSecond, `at least ${expected.perSecond}/s`);
}
