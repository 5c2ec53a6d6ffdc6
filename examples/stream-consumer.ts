/**
 * Works off the changes of all sessions from the Redis stream, one of any number of consumers in a group:
 *
 *     npx tsx examples/stream-consumer.ts <consumer>       a name that is this consumer's alone, and stays
 *
 * REDIS_URL and GROUP say where. The stream keeps what came while nobody listened, and each entry goes to one consumer of
 * the group, which has it until it says XACK. What a consumer took and did not finish, it finishes when it is back; from
 * one that does not come back, another takes it over after CLAIM_AFTER_MS. With several consumers at work, entries of one
 * session may be handled side by side: compare `session_version` with what you have before you overwrite it.
 *
 * The stream is trimmed (EVENT_STREAM_MAXLEN), read or not: a group that falls further behind reads GET /events.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";

const { REDIS_URL = "redis://localhost:6379", GROUP = "example", CLAIM_AFTER_MS = "60000" } = process.env;
const [consumer = "consumer-1"] = process.argv.slice(2);
const stream = "stream:events:session";
const atOnce = 100;
/** A repeat comes within minutes, after a crash of the service or of a consumer; a day is on the safe side. */
const rememberSeconds = 86_400;

type Entry = [id: string, fields: string[] | null];

/** Your work goes here. */
async function handle(event: Record<string, string>): Promise<void> {
  console.log(event["aggregate_id"], event["sequence"], event["event_type"], event["payload"]);
}

/**
 * Handles an entry unless its event was handled before: that is known by `event_id`, for the entry of a repeat has an id of
 * its own. What is done is remembered together with the acknowledgement. A consumer that dies between the work and this
 * has its work done again: where that must not be, keep the event's id in the same database as the work, written in the
 * same transaction (insert … on conflict do nothing), instead of here.
 */
async function work([id, fields]: Entry): Promise<void> {
  // Trimmed before it was finished.
  if (fields === null) return void (await redis.xack(stream, GROUP, id));
  const pairs = fields.flatMap((name, at) => (at % 2 === 0 ? [[name, fields[at + 1] ?? ""]] : []));
  const event = Object.fromEntries(pairs) as Record<string, string>;
  const done = `${stream}:${GROUP}:done:${event["event_id"]}`;
  if ((await redis.exists(done)) === 0) await handle(event);
  await redis.multi().set(done, "", "EX", rememberSeconds).xack(stream, GROUP, id).exec();
}

/** @param from `0`: what this consumer took and did not acknowledge; `>`: what nobody has taken yet */
async function read(from: "0" | ">"): Promise<Entry[]> {
  const wait = Math.min(Number(CLAIM_AFTER_MS), 5_000);
  const answer = await redis.xreadgroup(
    "GROUP",
    GROUP,
    consumer,
    "COUNT",
    atOnce,
    "BLOCK",
    wait,
    "STREAMS",
    stream,
    from,
  );
  return (answer as [stream: string, entries: Entry[]][] | null)?.[0]?.[1] ?? [];
}

let lookFrom = "0";

/** What others took so long ago that they must be dead; a part of it at a time. */
async function takeOver(): Promise<Entry[]> {
  const answer = await redis.xautoclaim(stream, GROUP, consumer, CLAIM_AFTER_MS, lookFrom, "COUNT", atOnce);
  const [cursor, entries] = answer as [cursor: string, entries: (Entry | null)[]];
  lookFrom = cursor;
  return entries.filter((entry) => entry !== null);
}

async function createGroup(): Promise<void> {
  // From the beginning of the stream; with $ instead of 0, from now on.
  await redis.xgroup("CREATE", stream, GROUP, "0", "MKSTREAM").catch((error) => {
    if (!String(error).includes("BUSYGROUP")) throw error;
  });
}

// A command whose connection is lost fails, and is not sent again by itself: its entries may have been ours already.
const redis = new Redis(REDIS_URL, { autoResendUnfulfilledCommands: false, maxRetriesPerRequest: 0 });
redis.on("error", (error) => console.error(String(error)));

for (let from: "0" | ">" = "0"; ; ) {
  try {
    if (from === "0") await createGroup();
    const mine = await read(from);
    for (const entry of mine) await work(entry);
    if (from === "0" && mine.length === 0) from = ">";
    for (const entry of await takeOver()) await work(entry);
  } catch (error) {
    console.error(String(error));
    from = "0";
    await sleep(500);
  }
}
