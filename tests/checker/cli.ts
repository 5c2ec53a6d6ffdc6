/**
 * The checker by hand:
 *
 *   node --import tsx tests/checker/cli.ts --database-url postgres://… [--log deliveries.ndjson] [--redis-url redis://…]
 *
 * --log: what subscribers received, as read.ts describes it. --redis-url: the stream is looked at, too;
 * --stream-maxlen says to what it is trimmed (100,000 unless given), --stream-forgot that Redis has lost earlier entries.
 * It prints every violation and ends with 1, or says what it has looked at and ends with 0.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { check } from "./check.ts";
import { parseLog, readHistory, readStream } from "./read.ts";

const { values } = parseArgs({
  options: {
    "database-url": { type: "string" },
    log: { type: "string" },
    "redis-url": { type: "string" },
    "stream-maxlen": { type: "string", default: "100000" },
    "stream-forgot": { type: "boolean", default: false },
  },
});
const { "database-url": databaseUrl, log: logFile, "redis-url": redisUrl } = values;
if (databaseUrl === undefined) throw new Error("--database-url says where the history is");

const history = await readHistory(databaseUrl);
const log = logFile === undefined ? undefined : parseLog(readFileSync(logFile, "utf8"));
const stream =
  redisUrl === undefined
    ? undefined
    : {
        entries: await readStream(redisUrl),
        maxLength: Number(values["stream-maxlen"]),
        forgot: values["stream-forgot"],
      };
const violations = check({ history, log, stream });
for (const violation of violations) console.log(violation);
console.log(
  `${violations.length} violations in ${history.events.length} events of ${history.sessions.length} sessions, ` +
    `${log?.deliveries.length ?? 0} deliveries and ${stream?.entries.length ?? 0} entries of the stream`,
);
process.exitCode = violations.length === 0 ? 0 : 1;
