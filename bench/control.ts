/**
 * The control of the speed comparison: the least that could give the same answers. Fastify and postgres.js, one prepared
 * statement on the same table with the same indexes; no validation, no event, no log. Run in a process of its own:
 * `CONTROL_DATABASE_URL=… node --import tsx bench/control.ts` prints the URL that it listens on.
 */

import Fastify from "fastify";
import postgres from "postgres";
import { v7 } from "uuid";
import { sessionsText, sessionText } from "../src/http/session-text.ts";
import { type SessionRow, sessionColumns } from "../src/sessions/row.ts";

const sql = postgres(process.env["CONTROL_DATABASE_URL"] ?? "", { max: 10, fetch_types: false });
const columns = sessionColumns("s");

const statements = {
  create: `
    insert into sessions as s (id, agent_id, session_type, runtime_backend, context, created_at, updated_at,
      last_activity_at, phase_since, started_at)
    values ($1, $2, $3, $4, $5::text::jsonb, now(), now(), now(), now(), now())
    returning ${columns}`,
  get: `select ${columns} from sessions s where s.namespace = 'default' and s.id = $1`,
  patch: `
    update sessions s set checkpoint = $2::text::jsonb, updated_at = now(), version = version + 1
    where s.namespace = 'default' and s.id = $1
    returning ${columns}`,
  list: `
    select ${columns} from sessions s where s.namespace = 'default' and s.agent_id = $1
    order by s.created_at desc, s.id desc limit $2`,
};

async function rows(statement: string, parameters: (string | number)[]): Promise<SessionRow[]> {
  return (await sql.unsafe(statement, parameters, { prepare: true })) as unknown as SessionRow[];
}

interface Body {
  readonly agent_id: string;
  readonly session_type: string;
  readonly runtime_backend: string;
  readonly context: object;
  readonly checkpoint: object;
}

const app = Fastify();
const json = "application/json; charset=utf-8";

app.post<{ Body: Body }>("/sessions/", async ({ body }, reply) => {
  const parameters = [v7(), body.agent_id, body.session_type, body.runtime_backend, JSON.stringify(body.context)];
  const [row] = await rows(statements.create, parameters);
  return reply
    .code(201)
    .type(json)
    .send(row && sessionText(row));
});

app.get<{ Params: { id: string } }>("/sessions/:id", async ({ params }, reply) => {
  const [row] = await rows(statements.get, [params.id]);
  return reply.type(json).send(row && sessionText(row));
});

app.patch<{ Params: { id: string }; Body: Body }>("/sessions/:id", async ({ params, body }, reply) => {
  const [row] = await rows(statements.patch, [params.id, JSON.stringify(body.checkpoint)]);
  return reply.type(json).send(row && sessionText(row));
});

app.get<{ Querystring: { agent_id: string; limit: string } }>("/sessions/", async ({ query }, reply) => {
  return reply.type(json).send(sessionsText(await rows(statements.list, [query.agent_id, Number(query.limit)])));
});

console.log(await app.listen({ port: 0, host: "127.0.0.1" }));

process.once("SIGTERM", async () => {
  await app.close();
  await sql.end({ timeout: 1 });
});
