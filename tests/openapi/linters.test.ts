/** What Redocly says of the OpenAPI file: nothing, not even a warning. Spectral takes ten times as long: `npm run check` asks it. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const run = promisify(execFile);
const cwd = fileURLToPath(new URL("../../", import.meta.url));

/** Neither telemetry nor a look for a newer version: the linters work without the internet. */
const offline = { REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true", NO_COLOR: "1" };

/** Runs a tool of the project, and gives its exit code and what it printed. */
async function tool(name: string, ...args: string[]): Promise<{ code: number; stdout: string }> {
  const script = `${cwd}node_modules/.bin/${name}`;
  return run(process.execPath, [script, ...args], { cwd, env: { ...process.env, ...offline } }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    ({ code, stdout, stderr }) => ({ code, stdout: `${stdout}${stderr}` }),
  );
}

it("Redocly reports nothing", { timeout: 30_000 }, async () => {
  const { code, stdout } = await tool("redocly", "lint", "--format=json");
  expect(code, stdout).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ totals: { errors: 0, warnings: 0, ignored: 0 }, problems: [] });
});
