/** The sessions that the load asks for: the same on every side, under ids that can be told from their numbers. */

import type postgres from "postgres";
import { newSession } from "../load.ts";
import { largeContext, type scenarios } from "../scenarios.ts";

type Kind = (typeof scenarios)[keyof typeof scenarios]["ids"];
export type Ids = Readonly<Record<Kind, readonly string[]>>;

export const seeded = { sessions: 4_000, agents: 200, creators: 200, large: 400 };

const prefixes: Readonly<Record<Kind, string>> = {
  sessions: "01900000-0000-7000-8000-",
  large: "01900000-0000-7000-9000-",
  agents: "00000000-0000-4000-8000-",
  creators: "00000000-0000-4000-9000-",
};

const agentOfLarge = "00000000-0000-4000-a000-000000000000";

/** SQL of an id as text: numbers begin at 1. */
export function idText(kind: Kind, number: string): string {
  return `'${prefixes[kind]}' || lpad(to_hex(${number}), 12, '0')`;
}

function idsOf(kind: Kind): string[] {
  const number = (at: number) => (at + 1).toString(16).padStart(12, "0");
  return Array.from({ length: seeded[kind] }, (_, at) => prefixes[kind] + number(at));
}

/**
 * Has the service make a session, and fills every database with copies of its row; an agent's are all over the table.
 *
 * @param databases the service's own first
 */
export async function seed(url: string, databases: readonly postgres.Sql[]): Promise<Ids> {
  const [sql] = databases;
  if (sql === undefined) throw new Error("there is no database to fill");
  const row = await template(url, sql);
  const columns = await sql<{ name: string }[]>`
    select column_name as name from information_schema.columns
    where table_name = 'sessions' and is_generated = 'NEVER' order by ordinal_position`;
  const names = columns.map(({ name }) => `"${name}"`).join(", ");
  const agent = idText("agents", `i % ${seeded.agents} + 1`);
  for (const target of databases) {
    await target.unsafe(insert(names, seeded.sessions, idText("sessions", "i"), agent), [row]);
    const large = insert(names, seeded.large, idText("large", "i"), `'${agentOfLarge}'`, withContext);
    await target.unsafe(large, [row, largeContext().replace("{number}", "0")]);
  }
  return { sessions: idsOf("sessions"), agents: idsOf("agents"), creators: idsOf("creators"), large: idsOf("large") };
}

/** Members in place of the row's own. */
const withContext = ", 'context', $2::text::jsonb, 'context_bytes', octet_length($2::text::jsonb::text)";

function insert(names: string, count: number, id: string, agent: string, members = ""): string {
  return `
    insert into sessions (${names})
    select ${names} from (
      select copy.* from generate_series(1, ${count}) i
      cross join lateral jsonb_populate_record(null::sessions, $1::text::jsonb || jsonb_build_object(
        'id', ${id}, 'agent_id', ${agent},
        'created_at', ($1::text::jsonb ->> 'created_at')::timestamptz - make_interval(secs => (${count} - i) / 1000.0)${members}
      )) copy
    ) copies`;
}

/** A row as the service writes it, with nothing of it left behind. */
async function template(url: string, sql: postgres.Sql): Promise<string> {
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify(newSession("00000000-0000-4000-8000-000000000000"));
  const answer = await fetch(`${url}/sessions/`, { method: "POST", headers, body });
  const text = await answer.text();
  if (answer.status !== 201) throw new Error(`not created: ${text}`);
  const { id } = JSON.parse(text) as { id: string };
  const [found] = await sql<{ row: string }[]>`
    delete from sessions s where id = ${id} returning (to_jsonb(s) - 'status')::text as row`;
  return found?.row ?? "";
}
