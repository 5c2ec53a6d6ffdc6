/** The command line: `session-service serve | migrate | openapi | state-machine`. */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { ConfigError, readConfig, settings } from "./config.ts";
import { MigrationError, migrate } from "./db/migrate.ts";
import { documentedApp } from "./documented-app.ts";
import { asyncApiYaml } from "./http/asyncapi.ts";
import { openApiJson, openApiYaml } from "./http/openapi.ts";
import { ListenError } from "./http/server.ts";
import { startService } from "./main.ts";
import { withStateMachine } from "./sessions/state-diagram.ts";

const nameWidth = Math.max(...Object.keys(settings).map((name) => name.length)) + 1;

const usage = `Usage: session-service [command]

  serve          run the service (the default)
  migrate        bring the tables of DATABASE_URL up to date, and stop
  openapi        write openapi.json, openapi.yaml and asyncapi.yaml to openapi/ in this folder
  state-machine  write the generated part of docs/state-machine.md in this folder anew

  --help         this text
  --version      the version

Settings, all optional, from the environment:
${Object.entries(settings)
  .map(
    ([name, { purpose, ...setting }]) =>
      `  ${name.padEnd(nameWidth)}${purpose}${"byDefault" in setting && setting.byDefault !== "" ? ` (${setting.byDefault})` : ""}`,
  )
  .join("\n")}
`;

const print = (line: string) => process.stdout.write(`${line}\n`);

/**
 * Runs a command.
 *
 * @param args without the program's name
 * @returns the exit code of the process
 */
export async function run(args: readonly string[], version: string): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { help: { type: "boolean", short: "h" }, version: { type: "boolean", short: "v" } },
    });
    if (values.help === true) return say(usage.trimEnd());
    if (values.version === true) return say(version);
    const [command = "serve", ...rest] = positionals;
    const known = rest.length === 0 ? commands[command] : undefined;
    if (known === undefined) return complain(`There is no command "${positionals.join(" ")}".\n\n${usage}`, 2);
    return await known();
  } catch (error) {
    return complain(explain(error), 1);
  }
}

const commands: Readonly<Record<string, () => Promise<number>>> = {
  serve,
  async migrate() {
    const { DATABASE_URL } = readConfig();
    if (DATABASE_URL === undefined) return complain("Set DATABASE_URL: the embedded database is migrated by serve.", 2);
    await migrate(DATABASE_URL);
    return say("The tables are up to date.");
  },
  async openapi() {
    const app = await documentedApp();
    mkdirSync("openapi", { recursive: true });
    writeFileSync("openapi/openapi.json", openApiJson(app));
    writeFileSync("openapi/openapi.yaml", openApiYaml(app));
    writeFileSync("openapi/asyncapi.yaml", asyncApiYaml());
    await app.close();
    return say("Wrote openapi.json, openapi.yaml and asyncapi.yaml in openapi/.");
  },
  async "state-machine"() {
    const path = "docs/state-machine.md";
    if (!existsSync(path)) return complain(`There is no ${path} here: run this in the project's folder.`, 2);
    writeFileSync(path, withStateMachine(readFileSync(path, "utf8")));
    return say(`Wrote the generated part of ${path}.`);
  },
};

/*
 * Of what a request leaves behind nothing is needed again, yet V8 would let 28 MB that are in use grow to 137 before it
 * looks. So it looks each time that they have grown by this share, in percent: 240 MB resident at full load become some 150.
 */
const heapGrowth = "--heap-growing-percent=40";

async function serve(): Promise<number> {
  const config = readConfig();
  setFlagsFromString(heapGrowth);
  let stop: ((delayMs: number) => void) | undefined;
  let early = false;
  const onSignal = (delayMs: number, exitCode: number) => {
    // A person who asks twice, or asks while the engines are still starting, does not want to wait.
    if (stop === undefined || early) process.exit(exitCode);
    early = true;
    stop(delayMs);
  };
  process.on("SIGINT", () => onSignal(0, 130));
  process.on("SIGTERM", () => onSignal(config.STOP_DELAY_MS, 143));
  const service = await startService(config, print);
  stop = (delayMs) => service.stop({ delayMs });
  return service.stopped;
}

function say(text: string): number {
  print(text);
  return 0;
}

function complain(text: string, code: number): number {
  process.stderr.write(`${text}\n`);
  return code;
}

/** Codes of a certificate that is refused (https://nodejs.org/api/tls.html#x509-certificate-error-codes). */
const isUntrusted = /CERT|UNABLE_TO_|INVALID_CA|HOSTNAME_MISMATCH|PATH_LENGTH_EXCEEDED|INVALID_PURPOSE/;

/** Errors that were written for the person at the keyboard; of any other the stack is worth more. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const forPeople = [ConfigError, ListenError, MigrationError].some((known) => error instanceof known);
  if (forPeople || error.name === "EmbeddedPostgresError") return error.message;
  const code = "code" in error ? String(error.code) : "";
  if (code.startsWith("ERR_PARSE_ARGS")) return `${error.message}\n\n${usage}`;
  if (isUntrusted.test(code)) {
    return (
      `The certificate of DATABASE_URL's server is not trusted: ${error.message} (${code}). Name the file of the authority ` +
      "that signed it with NODE_EXTRA_CA_CERTS; ?sslmode=require encrypts and asks for no trust."
    );
  }
  if (/^(E[A-Z_]+|CONNECT_TIMEOUT)$/.test(code)) return `The database can't be reached (${code}): check DATABASE_URL.`;
  return error.stack ?? error.message;
}
