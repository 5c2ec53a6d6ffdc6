/**
 * What the lifecycle costs: `npm run bench:lifecycle -- [--quick] [sweep] [claim] [heartbeat]`.
 *
 * Everything is measured in rounds, and what is compared by turns: how much the rounds differ says how noisy the machine
 * was.
 */

import { cpus, loadavg } from "node:os";
import { benchClaim } from "./lifecycle/claim.ts";
import { benchHeartbeat } from "./lifecycle/heartbeat.ts";
import { benchSweep } from "./lifecycle/sweep.ts";

/** A part of the benchmark: measures, prints, and says what it was to be. */
export type Part = (options: { readonly quick: boolean }) => Promise<void>;

const parts: Readonly<Record<string, Part>> = { sweep: benchSweep, claim: benchClaim, heartbeat: benchHeartbeat };

const quick = process.argv.includes("--quick");
const named = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));

const unknown = named.filter((name) => parts[name] === undefined);
if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: there are ${Object.keys(parts).join(", ")}`);
console.log(`${cpus().length} processors, Node.js ${process.version}`);
// What else is at work here slows the service, the database and this client alike.
console.log(`Load of the machine before, over the last minute: ${(loadavg()[0] ?? 0).toFixed(1)}`);
for (const [name, part] of Object.entries(parts)) {
  if (named.length === 0 || named.includes(name)) await part({ quick });
}
