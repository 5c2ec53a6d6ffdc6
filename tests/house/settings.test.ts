import { describe, expect, it } from "vitest";
import { ConfigError, readConfig, settings } from "../../src/config.ts";
import { tableRows, textOf } from "./sources.ts";

interface Setting {
  readonly must: string;
  readonly example: string;
  readonly purpose: string;
  readonly byDefault?: string;
}

const known = Object.entries(settings) as [string, Setting][];

/** A value for each setting that takes not just any text, and can't be used. */
const bad: Readonly<Record<string, string>> = {
  PORT: "eighty",
  DATABASE_URL: "mysql://user:hunter2@localhost/sessions",
  DATABASE_POOL_SIZE: "0",
  COALESCE: "perhaps",
  DATABASE_PREPARE: "maybe",
  REDIS_URL: "http://:hunter2@localhost",
  REDIS_PORT: "65536",
  MIGRATE: "yes",
  LOG_LEVEL: "loud",
  API_KEYS: "hunter2",
  ALLOWED_HOSTS: "https://sessions.internal/",
  CORS_ORIGINS: "console.example.com",
  BODY_LIMIT_BYTES: "8MB",
  CONTEXT_LIMIT_BYTES: "1000",
  CHECKPOINT_LIMIT_BYTES: "unlimited",
  FINAL_CHECKPOINTS: "some",
  RELAY: "1",
  EVENT_STREAM_MAXLEN: "many",
  EVENT_RETENTION_DAYS: "0.5",
  RETENTION_DAYS_DELETED: "a month",
  CHECKPOINT_KEEP_LAST: "some",
  CHECKPOINT_KEEP_DAYS: "-1",
  CHECKPOINT_KEEP_DAILY_DAYS: "36501",
  IDEMPOTENCY_TTL_HOURS: "0",
  DEFAULT_IDLE_TIMEOUT_SECONDS: "1h",
  DEFAULT_TIMEOUT_SECONDS: "1h",
  DEFAULT_PENDING_TIMEOUT_SECONDS: "1h",
  SWEEP_INTERVAL_MS: "0",
  STOP_DELAY_MS: "-1",
};
const anyText = ["HOST", "DATA_DIR"];

function complaint(env: Readonly<Record<string, string>>): string {
  try {
    readConfig(env);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as ConfigError).message;
  }
  throw new Error("it was accepted");
}

describe("the settings", () => {
  it("stand in .env.example, each once and commented, with its default or an example, and nothing else does", () => {
    const lines = textOf(".env.example").split("\n");
    expect(lines.filter((line) => line !== "" && !line.startsWith("# "))).toEqual([]);
    const given = lines.flatMap((line, at) => {
      const [, name, value] = /^# ([A-Z][A-Z_]*)=(.*)$/.exec(line) ?? [];
      return name === undefined ? [] : [[name, value, lines[at - 1]?.slice(2)]];
    });
    expect(given).toEqual(
      known.map(([name, { byDefault, example, purpose }]) => [name, byDefault || example, purpose]),
    );
  });

  it("stand in docs/settings.md as src/config.ts has them", () => {
    const documented = tableRows(textOf("docs/settings.md"), "Setting");
    expect(documented).toEqual(
      known.map(([name, { byDefault, purpose, must, example }]) => {
        const shown = byDefault === undefined ? "unset" : byDefault === "" ? "empty" : `\`${byDefault}\``;
        return [`\`${name}\``, shown, purpose, `must ${must}`, `\`${example}\``];
      }),
    );
  });

  it("are all optional, and an empty one counts as unset", () => {
    const defaults = readConfig({});
    expect(defaults).toMatchObject({
      HOST: "127.0.0.1",
      PORT: 8011,
      LOG_LEVEL: "info",
      DATA_DIR: ".data",
      API_KEYS: [],
    });
    expect(defaults.DATABASE_URL).toBeUndefined();
    expect(defaults.REDIS_URL).toBeUndefined();
    expect(readConfig(Object.fromEntries(known.map(([name]) => [name, " "])))).toEqual(defaults);
  });

  it("take their own examples", () => {
    const values = readConfig(Object.fromEntries(known.map(([name, { example }]) => [name, example])));
    expect(Object.keys(values)).toEqual(known.map(([name]) => name));
    expect(values.ALLOWED_HOSTS).toEqual(["sessions.internal", "session-service"]);
  });

  it("that can't be used are all named in one message, each with what it must be and an example", () => {
    expect([...Object.keys(bad), ...anyText].sort()).toEqual(known.map(([name]) => name).sort());
    const lines = complaint(bad).split("\n");
    expect(lines).toHaveLength(1 + Object.keys(bad).length);
    for (const [name, { must, example }] of known.filter(([one]) => one in bad)) {
      const line = lines.find((one) => one.trim().startsWith(`${name} `));
      expect(line).toContain(`${name} must ${must}, for example ${name}=${example}`);
    }
  });

  it.each(Object.keys(bad))("%s alone stops the start as well", (name) => {
    const message = complaint({ [name]: bad[name] ?? "" });
    expect(message.split("\n")).toHaveLength(2);
    expect(message).toContain(name);
  });

  it("repeat a bad value so that it is found, but never a secret", () => {
    const message = complaint(bad);
    expect(message).not.toContain("hunter2");
    expect(message).toContain('(it is "eighty")');
  });
});
