/**
 * Settings, from environment variables: nothing else reads settings from `process.env`. All of them are optional, and one
 * message names every bad one.
 */

import { z } from "zod";

const trimmed = z.string().trim();

function integer(from: number, to: number) {
  return trimmed
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .refine((value) => value >= from && value <= to);
}

function url(...protocols: string[]) {
  return trimmed.refine((value) => URL.canParse(value) && protocols.includes(new URL(value).protocol));
}

const list = trimmed.transform((value) =>
  value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);

const onOff = z.preprocess(
  (value) => (typeof value === "string" ? value.trim().toLowerCase() : value),
  z.enum(["on", "off"]),
);

const isOrigin = (value: string) => URL.canParse(value) && new URL(value).origin === value;

interface Setting {
  readonly schema: z.ZodType;
  /** What a good value looks like: the end of the sentence "PORT must be …". */
  readonly must: string;
  readonly example: string;
  /** Undefined: the setting is unset unless given. */
  readonly byDefault?: string;
  /** For the README, `.env.example` and `--help`. */
  readonly purpose: string;
}

const documentLimit = {
  schema: integer(1_024, 256 * 1024 * 1024),
  must: "be a whole number of bytes from 1024 to 268435456",
  example: "1048576",
  byDefault: String(8 * 1024 * 1024),
} as const;

export const settings = {
  HOST: {
    schema: trimmed.min(1),
    must: "be an address or a host name to listen on",
    example: "0.0.0.0",
    byDefault: "127.0.0.1",
    purpose: "address to listen on",
  },
  PORT: {
    schema: integer(0, 65_535),
    must: "be a whole number from 0 to 65535 (0: any free port)",
    example: "8011",
    byDefault: "8011",
    purpose: "port to listen on",
  },
  DATABASE_URL: {
    schema: url("postgres:", "postgresql:"),
    must: "be a PostgreSQL URL",
    example: "postgres://user:password@localhost:5432/sessions",
    purpose: "PostgreSQL 15 to 18; unset: an embedded PostgreSQL in DATA_DIR",
  },
  DATABASE_POOL_SIZE: {
    schema: integer(1, 1_000),
    must: "be a whole number from 1 to 1000",
    example: "10",
    byDefault: "10",
    purpose: "connections to PostgreSQL that a process keeps",
  },
  DATABASE_PREPARE: {
    schema: onOff,
    must: "be on or off",
    example: "off",
    byDefault: "on",
    purpose: "prepared statements; off behind PgBouncer in transaction mode, at two round trips a query",
  },
  COALESCE: {
    schema: onOff,
    must: "be on or off",
    example: "off",
    byDefault: "on",
    purpose: "requests that wait at the same time share a statement; off: each has its own",
  },
  REDIS_URL: {
    schema: url("redis:", "rediss:"),
    must: "be a Redis URL",
    example: "redis://localhost:6379",
    purpose: "Redis 6.2 and up, or Valkey; unset: an embedded Valkey",
  },
  REDIS_PORT: {
    schema: integer(0, 65_535),
    must: "be a whole number from 0 to 65535 (0: any free port)",
    example: "6379",
    byDefault: "6379",
    purpose: "port of the embedded Valkey; a free one when it is taken",
  },
  DATA_DIR: {
    schema: trimmed.min(1),
    must: "be a folder",
    example: "/var/lib/session-service",
    byDefault: ".data",
    purpose: "where the embedded PostgreSQL keeps its data",
  },
  MIGRATE: {
    schema: onOff,
    must: "be on or off",
    example: "off",
    byDefault: "on",
    purpose: "bring the tables up to date at start; off: left to `session-service migrate`",
  },
  LOG_LEVEL: {
    schema: z.enum(["fatal", "error", "warn", "info", "debug", "trace", "silent"]),
    must: "be one of fatal, error, warn, info, debug, trace, silent",
    example: "debug",
    byDefault: "info",
    purpose: "the least level that is logged",
  },
  API_KEYS: {
    schema: list.refine((keys) => keys.every((key) => /^[\x21-\x7e]{8,}$/.test(key))),
    must: "be keys of at least 8 printable characters without spaces, separated by commas",
    example: "b3f1c2d4a5968778,0f1e2d3c4b5a6978",
    byDefault: "",
    purpose: "when set, every request but /health/* needs one, as X-API-Key or as a bearer token",
  },
  ALLOWED_HOSTS: {
    schema: list.refine((hosts) => hosts.every((host) => /^[a-z0-9_.:[\]-]+$/i.test(host))),
    must: "be host names, separated by commas",
    example: "sessions.internal,session-service",
    byDefault: "",
    purpose: "names besides localhost that a request's Host may carry",
  },
  CORS_ORIGINS: {
    schema: list.refine((origins) => origins.every(isOrigin)),
    must: "be origins (scheme, host and port, no path), separated by commas",
    example: "https://console.example.com",
    byDefault: "",
    purpose: "web pages that may call the service from a browser",
  },
  BODY_LIMIT_BYTES: {
    schema: integer(1_024, 256 * 1024 * 1024),
    must: "be a whole number of bytes from 1024 to 268435456",
    example: "8388608",
    byDefault: String(8 * 1024 * 1024),
    purpose: "the largest body of a request",
  },
  CONTEXT_LIMIT_BYTES: { ...documentLimit, purpose: "the largest context of a session" },
  CHECKPOINT_LIMIT_BYTES: { ...documentLimit, purpose: "the largest checkpoint of a session" },
  FINAL_CHECKPOINTS: {
    schema: z.enum(["off", "crashes", "all"]),
    must: "be one of off, crashes, all",
    example: "all",
    byDefault: "crashes",
    purpose: "which sessions leave a last checkpoint, with their context, where that has changed since the one before",
  },
  RELAY: {
    schema: onOff,
    must: "be on or off",
    example: "off",
    byDefault: "on",
    purpose: "whether this process takes its turn at publishing events; off: others that share the database do",
  },
  EVENT_STREAM_MAXLEN: {
    schema: integer(0, 100_000_000),
    must: "be a whole number from 0 to 100000000 (0: no stream)",
    example: "100000",
    byDefault: "100000",
    purpose: "about how many changes the Redis stream stream:events:session keeps",
  },
  EVENT_RETENTION_DAYS: {
    schema: integer(0, 36_500),
    must: "be a whole number of days from 0 to 36500 (0: for ever)",
    example: "90",
    byDefault: "0",
    purpose: "how long events are kept; those not published yet, and those under a legal hold, are kept in any case",
  },
  RETENTION_DAYS_DELETED: {
    schema: integer(0, 36_500),
    must: "be a whole number of days from 0 to 36500 (0: for ever)",
    example: "30",
    byDefault: "0",
    purpose: "how long deleted sessions are kept before they are removed for good, with all that is theirs",
  },
  CHECKPOINT_KEEP_LAST: {
    schema: integer(0, 1_000_000),
    must: "be a whole number from 0 to 1000000 (0: all)",
    example: "20",
    byDefault: "100",
    purpose:
      "how many of the last checkpoints of a session are kept; labelled ones and milestones are kept in any case, as is " +
      "what the next two keep, and what a session's checkpoint_retention says goes before",
  },
  CHECKPOINT_KEEP_DAYS: {
    schema: integer(0, 36_500),
    must: "be a whole number of days from 0 to 36500 (0: none for its age)",
    example: "7",
    byDefault: "0",
    purpose: "for how many days every checkpoint is kept beside those",
  },
  CHECKPOINT_KEEP_DAILY_DAYS: {
    schema: integer(0, 36_500),
    must: "be a whole number of days from 0 to 36500 (0: none for that)",
    example: "90",
    byDefault: "0",
    purpose: "for how many days the last checkpoint of each day (UTC) is kept beside those",
  },
  IDEMPOTENCY_TTL_HOURS: {
    schema: integer(1, 8_760),
    must: "be a whole number of hours from 1 to 8760",
    example: "24",
    byDefault: "24",
    purpose: "how long the answer to a request with an Idempotency-Key is kept",
  },
  DEFAULT_IDLE_TIMEOUT_SECONDS: {
    schema: integer(0, 316_224_000),
    must: "be a whole number of seconds from 0 to 316224000",
    example: "86400",
    byDefault: "0",
    purpose: "how long a session that does not say may be without activity before it expires; 0: for ever",
  },
  DEFAULT_TIMEOUT_SECONDS: {
    schema: integer(0, 316_224_000),
    must: "be a whole number of seconds from 0 to 316224000",
    example: "7200",
    byDefault: "0",
    purpose: "how long an attempt at a session that does not say may be at work before it times out; 0: for ever",
  },
  DEFAULT_PENDING_TIMEOUT_SECONDS: {
    schema: integer(0, 316_224_000),
    must: "be a whole number of seconds from 0 to 316224000",
    example: "3600",
    byDefault: "0",
    purpose: "how long a session that does not say may wait to be claimed before it expires; 0: for ever",
  },
  SWEEP_INTERVAL_MS: {
    schema: integer(50, 60_000),
    must: "be a whole number of milliseconds from 50 to 60000",
    example: "1000",
    byDefault: "1000",
    purpose: "how often sessions whose timers are due are looked for; each process does so, and each timer acts once",
  },
  STOP_DELAY_MS: {
    schema: integer(0, 60_000),
    must: "be a whole number of milliseconds from 0 to 60000",
    example: "5000",
    byDefault: "500",
    purpose: "after SIGTERM, how long requests are still taken while load balancers see that the service is not ready",
  },
} as const satisfies Record<string, Setting>;

type Values = { readonly [Name in keyof typeof settings]: z.output<(typeof settings)[Name]["schema"]> };
type Unset = { [Name in keyof typeof settings]: (typeof settings)[Name] extends { byDefault: string } ? never : Name };
type UnsetName = Unset[keyof Unset];

/** Every setting by its name; those without a default are undefined unless given. */
export type Config = Omit<Values, UnsetName> & { readonly [Name in UnsetName]: Values[Name] | undefined };

/** What is wrong with the settings, one line a variable. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/**
 * Reads the settings from environment variables; an empty variable counts as unset.
 *
 * @throws {ConfigError} naming every bad variable, what it must look like, and an example.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const values: Record<string, unknown> = {};
  const wrong: string[] = [];
  for (const [name, setting] of Object.entries(settings) as [string, Setting][]) {
    const given = env[name];
    const text = given === undefined || given.trim() === "" ? setting.byDefault : given;
    if (text === undefined) continue;
    const read = setting.schema.safeParse(text);
    if (read.success) values[name] = read.data;
    else wrong.push(`  ${name} must ${setting.must}, for example ${name}=${setting.example}${got(name, text)}`);
  }
  if (wrong.length > 0) throw new ConfigError(`Settings that can't be used:\n${wrong.join("\n")}`);
  return values as unknown as Config;
}

/** Variables whose values are, or may hold, secrets: a message must not repeat them. */
const secret = new Set(["API_KEYS", "DATABASE_URL", "REDIS_URL"]);

function got(name: string, text: string): string {
  return secret.has(name) ? "" : ` (it is ${JSON.stringify(text)})`;
}
