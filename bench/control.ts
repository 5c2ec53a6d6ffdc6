/**
 * The control of the speed comparison: the least that could give the same answers. Fastify and postgres.js, one prepared
 * statement on the same table with the same indexes; no validation, no event, no log. Run in a process of its own,
 * compiled as the service is (see compare/control-process.ts); prints the URL that it listens on.
 */

import Fastify, { type FastifyReply } from "fastify";
import postgres from "postgres";
import { v7 } from "uuid";
import { controlStatements as statements } from "./compare/control-statements.ts";
import { eventText, leaseText, type Row, sessionText } from "./compare/control-text.ts";

const sql = postgres(process.env["CONTROL_DATABASE_URL"] ?? "", { max: 10, fetch_types: false });

async function rows(statement: string, parameters: (string | number)[]): Promise<Row[]> {
  return (await sql.unsafe(statement, parameters, { prepare: true })) as unknown as Row[];
}

async function answer(
  reply: FastifyReply,
  text: (row: Row) => string,
  statement: string,
  parameters: (string | number)[],
): Promise<FastifyReply> {
  const [row] = await rows(statement, parameters);
  return reply.type("application/json; charset=utf-8").send(row && text(row));
}

interface NewSession {
  readonly agent_id: string;
  readonly session_type: string;
  readonly runtime_backend: string;
  readonly context: object;
}

interface Change {
  readonly checkpoint?: object;
  readonly context?: object;
  readonly phase?: string;
}

interface Event {
  readonly event_type: string;
  readonly payload: object;
}

interface ById {
  readonly id: string;
}

const app = Fastify();

app.post<{ Body: NewSession }>("/sessions/", async ({ body }, reply) => {
  const parameters = [v7(), body.agent_id, body.session_type, body.runtime_backend, JSON.stringify(body.context)];
  return answer(reply.code(201), sessionText, statements.create, parameters);
});

app.get<{ Params: ById }>("/sessions/:id", async ({ params }, reply) =>
  answer(reply, sessionText, statements.get, [params.id]),
);

app.patch<{ Params: ById; Body: Change }>("/sessions/:id", async ({ params, body }, reply) => {
  const { checkpoint, context, phase } = body;
  if (checkpoint !== undefined) {
    return answer(reply, sessionText, statements.checkpoint, [params.id, JSON.stringify(checkpoint)]);
  }
  if (context !== undefined) {
    return answer(reply, sessionText, statements.context, [params.id, JSON.stringify(context)]);
  }
  return answer(reply, sessionText, statements.phase, [params.id, phase ?? ""]);
});

app.addContentTypeParser(
  "application/merge-patch+json",
  { parseAs: "string" },
  app.getDefaultJsonParser("error", "error"),
);

app.patch<{ Params: ById; Body: object }>("/sessions/:id/context", async ({ params, body }, reply) =>
  answer(reply, sessionText, statements.merge, [params.id, JSON.stringify(body)]),
);

app.post<{ Params: ById }>("/sessions/:id/heartbeat", async ({ params }, reply) =>
  answer(reply, leaseText, statements.heartbeat, [params.id]),
);

app.post<{ Params: ById; Body: Event }>("/sessions/:id/events", async ({ params, body }, reply) => {
  const parameters = [v7(), params.id, `session.${body.event_type}`, JSON.stringify(body.payload)];
  return answer(reply.code(201), eventText, statements.event, parameters);
});

app.get<{ Querystring: { agent_id: string; limit: string } }>("/sessions/", async ({ query }, reply) => {
  const found = await rows(statements.list, [query.agent_id, Number(query.limit)]);
  return reply.type("application/json; charset=utf-8").send(`[${found.map(sessionText).join(",")}]`);
});

console.log(await app.listen({ port: 0, host: "127.0.0.1" }));

process.once("SIGTERM", async () => {
  await app.close();
  await sql.end({ timeout: 1 });
});
