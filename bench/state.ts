/**
 * What the state of a session costs as it grows: `npm run bench:state -- [--seconds=3] [--rounds=5]`.
 *
 * One key merged into contexts of 1 KB to 1 MB, and checkpoints saved in sessions that have none, and 10,000, already: by
 * turns, for what else the machine does hits both alike.
 */

import postgres from "postgres";
import { Agent, request } from "undici";
import { option } from "./cost/options.ts";
import { openStage } from "./events/stage.ts";
import { median, spread } from "./figures.ts";
import { line, title } from "./lifecycle/print.ts";
import { newSession, runLoad } from "./load.ts";

const seconds = option("seconds", 3);
const rounds = option("rounds", 5);
const earlier = 10_000;
/** Each of them has so many. */
const sessions = 50;
const sizes = [1_000, 10_000, 100_000, 1_000_000];

const agentId = "00000000-0000-4000-8000-000000000001";
const dispatcher = new Agent({ connections: 1 });

await using stage = await openStage();
// All are kept: what is removed meanwhile is measured elsewhere.
const service = await stage.serve({ CHECKPOINT_KEEP_LAST: "0" });
const sql = postgres(service.databaseUrl, { max: 1, onnotice: () => {} });

async function ask(method: "POST" | "PATCH", path: string, body: string, type = "application/json"): Promise<string> {
  const answer = await request(`${service.url}${path}`, {
    dispatcher,
    method,
    body,
    headers: { "content-type": type },
  });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text.slice(0, 300)}`);
  return text;
}

async function create(context: object = {}): Promise<string> {
  const text = await ask("POST", "/sessions/", JSON.stringify({ ...newSession(agentId), context }));
  return (JSON.parse(text) as { id: string }).id;
}

async function mergeInto(bytes: number): Promise<void> {
  const content = "some words of a message, as agents have them ".repeat(4);
  const messages = Array.from({ length: Math.ceil(bytes / 200) }, () => ({ role: "user", content }));
  const id = await create({ progress: 0, messages });
  const times: number[] = [];
  for (let n = 0; n < 30; n++) {
    const began = performance.now();
    await ask("PATCH", `/sessions/${id}/context`, `{"progress":${n + 1}}`, "application/merge-patch+json");
    if (n >= 10) times.push(performance.now() - began);
  }
  line(`${bytes / 1_000} KB`, `${median(times).toFixed(1)} ms (${spread(times, (ms) => ms.toFixed(1))})`);
}

/** Makes checkpoints of sessions, as if each had been saved long ago. */
async function haveSaved(ids: readonly string[]): Promise<void> {
  await sql`
    insert into checkpoints (session_id, number, id, data, bytes, session_version, created_at)
    select s.id, n, gen_random_uuid(), '{"step": 1}', 11, 1, now()
    from sessions s cross join generate_series(1, ${earlier}) n where s.id = any(${[...ids]}::uuid[])`;
  await sql`
    update sessions set last_checkpoint = ${earlier}, checkpoint_count = ${earlier} where id = any(${[...ids]}::uuid[])`;
  await sql`vacuum (analyze) checkpoints, sessions`;
}

async function saved(ids: readonly string[]): Promise<number> {
  const { perSecond, errors } = await runLoad({ url: service.url, operation: "patch", ids, seconds });
  if (errors > 0) throw new Error(`${errors} requests failed`);
  return perSecond;
}

title("One key merged into a context of so many bytes, one request at a time");
for (const bytes of sizes) await mergeInto(bytes);

title(
  `Checkpoints saved a second, 32 connections, ${sessions} sessions with ${earlier} earlier ones each, and with few`,
);
const many = await Promise.all(Array.from({ length: sessions }, () => create()));
const few = await Promise.all(Array.from({ length: sessions }, () => create()));
await haveSaved(many);
await saved(few);
const ratios: number[] = [];
for (let round = 0; round < rounds; round++) {
  const [withFew, withMany] = [await saved(few), await saved(many)];
  ratios.push(withMany / withFew);
  line(`round ${round + 1}`, `${Math.round(withFew)}/s`, `${Math.round(withMany)}/s`);
}
line("ratio", `${median(ratios).toFixed(2)} (${spread(ratios, (ratio) => ratio.toFixed(2))})`);
await sql.end();
await dispatcher.close();
