/** What the command line asks for. */

import { parseArgs } from "node:util";
import { type Operation, operations } from "../load.ts";

/** What is measured beside the operations: figures without a control, and PostgreSQL alone. */
const parts = ["starts", "streams", "latency", "postgres"] as const;
export type Part = (typeof parts)[number];

export interface Options {
  readonly form: "full" | "quick" | "check" | "named";
  readonly operations: readonly Operation[];
  readonly parts: readonly Part[];
  readonly connections: readonly number[];
  readonly rounds: number;
  readonly seconds: number;
  readonly warmSeconds: number;
  /** Where the service is measured with coalescing switched off too; empty: nowhere. */
  readonly offAt: readonly number[];
  readonly writesBaseline: boolean;
  /** Whether the service publishes to the embedded Valkey, also where there is a redis-server. */
  readonly embeddedBroker: boolean;
}

type Form = Pick<Options, "operations" | "parts" | "connections" | "rounds" | "seconds" | "warmSeconds" | "offAt">;

/** Those that have targets. */
const core: readonly Operation[] = ["get", "list", "heartbeat", "patch", "create"];
const everyConnections = [1, 32, 256];

const forms: Readonly<Record<Options["form"], Form>> = {
  full: {
    operations,
    parts,
    connections: everyConnections,
    rounds: 5,
    seconds: 1.5,
    warmSeconds: 1,
    offAt: [],
  },
  quick: {
    operations: core,
    parts: [],
    connections: [1, 32],
    rounds: 2,
    seconds: 0.5,
    warmSeconds: 0.2,
    offAt: [],
  },
  // So many that their median is steady: what else the machine does comes in bursts, and shall hit few of them.
  check: {
    operations: core,
    parts: [],
    connections: everyConnections,
    rounds: 9,
    seconds: 1.5,
    warmSeconds: 1,
    offAt: [32],
  },
  named: { operations: [], parts: [], connections: [32], rounds: 5, seconds: 2, warmSeconds: 1, offAt: [] },
};

export const usage = `npm run bench -- [${[...operations, ...parts].join("] [")}]
  names            only these; at 32 connections unless --connections says otherwise
  --quick          create, get, patch, heartbeat and list in short rounds: under two minutes
  --check          holds the thresholds (npm run bench:check)
  --connections=…  1,32,256
  --rounds=…  --seconds=…
  --off            the service with coalescing switched off, too
  --embedded       the service publishes to the embedded Valkey, and not to a redis-server where there is one
  --baseline       writes the ratios to bench/baseline.json`;

/** @throws with the usage when something is not understood */
export function readOptions(args: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      quick: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      off: { type: "boolean", default: false },
      baseline: { type: "boolean", default: false },
      embedded: { type: "boolean", default: false },
      connections: { type: "string" },
      rounds: { type: "string" },
      seconds: { type: "string" },
    },
  });
  const unknown = positionals.filter((name) => !isOperation(name) && !isPart(name));
  if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: there is no such scenario\n\n${usage}`);
  const isNamed = positionals.length > 0;
  const form = values.check ? "check" : values.quick ? "quick" : isNamed ? "named" : "full";
  const plan = forms[form];
  const connections = numbers(values.connections) ?? plan.connections;
  return {
    ...plan,
    form,
    connections,
    ...(isNamed ? { operations: positionals.filter(isOperation), parts: positionals.filter(isPart) } : {}),
    rounds: numbers(values.rounds)?.[0] ?? plan.rounds,
    seconds: numbers(values.seconds)?.[0] ?? plan.seconds,
    offAt: values.off ? connections : plan.offAt,
    writesBaseline: values.baseline,
    embeddedBroker: values.embedded,
  };
}

function numbers(text: string | undefined): number[] | undefined {
  const read = text?.split(",").map(Number);
  if (read?.some((number) => !(number > 0))) throw new Error(`${text}: no positive number\n\n${usage}`);
  return read;
}

const isOperation = (name: string): name is Operation => (operations as readonly string[]).includes(name);
const isPart = (name: string): name is Part => (parts as readonly string[]).includes(name);
