/**
 * The statements of both sides as pgbench can run them: what a request gives as parameters becomes SQL over the variables
 * `:n` (the number of a session), `:a` (that of an agent) and `:salt`.
 *
 * Ours are taken from the service's own commands, as they would send them for one request: nothing here to keep up with.
 */

import type { Parameter, Queries } from "../../src/db/client.ts";
import { openSessions, type Sessions } from "../../src/sessions/sessions.ts";
import type { Operation } from "../load.ts";
import { sessionFields } from "../scenarios.ts";
import { controlStatements } from "./control-statements.ts";
import { idText, seeded } from "./seed.ts";

/** Stand-ins in texts for what differs from one run of a statement to the next, and the SQL of each. */
const stands = {
  session: { text: "01900000-0000-7000-8000-000000000001", sql: `(${idText("sessions", ":n::int")})` },
  agent: { text: "00000000-0000-4000-8000-000000000001", sql: `(${idText("agents", ":a::int")})` },
  salt: { text: "123456789", sql: ":salt::text" },
};

/** A new id, later ones greater: as version 7 is. */
const newId =
  "(lpad(to_hex((extract(epoch from clock_timestamp()) * 1000000)::bigint), 16, '0') || " +
  "substr(md5(random()::text), 1, 16))";

const checkpoint = `{"step":1,"salt":${stands.salt.text},"text":"${"checkpoint of some work ".repeat(11)}"}`;
// Different each time: PostgreSQL would else read a document once that a service reads with each request.
const context = JSON.stringify(sessionFields.context).replace("{", `{"salt":${stands.salt.text},`);

export type AloneOperation = Extract<Operation, "get" | "list" | "heartbeat" | "patch" | "create">;

/** A script each, but for the statement's end. */
export interface Scripts {
  readonly service: string;
  readonly control: string;
}

export async function aloneScripts(): Promise<Readonly<Record<AloneOperation, Scripts>>> {
  const id = stands.session.text;
  const agentId = stands.agent.text;
  const session = uuid(literal(id));
  const { session_type: sessionType, runtime_backend: runtimeBackend } = sessionFields;
  const asked = { namespace: "default", requestId: "pgbench" };
  return {
    get: {
      service: await ours((sessions) => sessions.read(asked, id)),
      control: filled(controlStatements.get, [session]),
    },
    list: {
      service: await ours((sessions) => sessions.list(asked, { agentId, limit: 10 })),
      control: filled(controlStatements.list, [uuid(literal(agentId)), "10"]),
    },
    heartbeat: {
      service: await ours((sessions) => sessions.heartbeat(asked, { id })),
      control: filled(controlStatements.heartbeat, [session]),
    },
    patch: {
      service: await ours((sessions) => sessions.update(asked, { id, checkpoint })),
      control: filled(controlStatements.checkpoint, [session, literal(checkpoint)]),
    },
    create: {
      service: await ours((sessions) =>
        sessions.create(asked, { agentId, sessionType, phase: "running", runtimeBackend, context }),
      ),
      control: filled(controlStatements.create, [
        uuid(newId),
        uuid(literal(agentId)),
        literal(sessionType),
        literal(runtimeBackend),
        literal(context),
      ]),
    },
  };
}

/** Where each script begins. */
export const variables =
  `\\set n random(1, ${seeded.sessions})\n` +
  `\\set a random(1, ${seeded.agents})\n` +
  "\\set salt random(100000000, 999999999)\n";

/** The first statement that a command would send. */
async function ours(ask: (sessions: Sessions) => Promise<unknown>): Promise<string> {
  let sent: { readonly statement: string; readonly parameters: readonly Parameter[] } | undefined;
  const recorder: Queries = {
    async query(statement, parameters = []) {
      sent ??= { statement, parameters };
      throw new Error("only recorded");
    },
  };
  await ask(openSessions(recorder, { coalesce: true })).catch(() => {});
  if (sent === undefined) throw new Error("the command sent no statement");
  return filled(
    sent.statement,
    sent.parameters.map((parameter) => (typeof parameter === "string" ? literal(parameter) : String(parameter))),
  );
}

function filled(statement: string, parameters: readonly string[]): string {
  const script = statement.replaceAll(/\$(\d+)/g, (_, number) => `(${parameters[Number(number) - 1]})`);
  const stray = /(?<!:):(?!:)(?!(?:n|a|salt)::)\w*/.exec(script)?.[0];
  if (stray !== undefined) throw new Error(`pgbench would take ${stray} for a variable`);
  return `${script};\n`;
}

function uuid(sql: string): string {
  return `(${sql})::uuid`;
}

/** SQL of a text in which what stands for something is put in; any other id is that of something new. */
function literal(text: string): string {
  const parts = text
    .split(new RegExp(`([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|${stands.salt.text})`))
    .filter((part) => part !== "");
  return parts.map(sqlOf).join(" || ") || "''";
}

function sqlOf(part: string): string {
  const stand = Object.values(stands).find(({ text }) => text === part);
  if (stand !== undefined) return stand.sql;
  if (/^[0-9a-f-]{36}$/.test(part)) return newId;
  // A colon would begin a variable of pgbench's.
  return `E'${part.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll(":", "\\x3a").replaceAll("\n", "\\n")}'`;
}
