/** A TypeScript client generated from the OpenAPI file (tests/sdk): it compiles under strict, and its calls work. */

import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { startTestService, type TestService } from "../support/service.ts";

const run = promisify(execFile);
const cwd = fileURLToPath(new URL("../sdk/", import.meta.url));

/** Runs a script with Node.js in the client's folder; what it prints stands in the error when it fails. */
async function node(script: string, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [script, ...args], { cwd }).catch((error) => {
    throw new Error(`${script}: ${error.stdout}${error.stderr}`);
  });
  return stdout;
}

const removeMade = () => {
  for (const made of ["generated.ts", "build"]) rmSync(`${cwd}${made}`, { recursive: true, force: true });
};

let service: TestService;
beforeAll(async () => {
  removeMade();
  service = await startTestService();
});
afterAll(async () => {
  await service.stop();
  removeMade();
});

it("a client is generated, compiles under strict, and makes the original calls", { timeout: 60_000 }, async () => {
  await node("node_modules/.bin/openapi-typescript", "../../openapi/openapi.yaml", "--output", "generated.ts");
  await node("node_modules/.bin/tsc", "--project", "tsconfig.json");
  const printed = JSON.parse(await node("build/client.js", service.url));
  expect(printed).toEqual({
    created: [
      ["development", "local"],
      ["conversation", "unknown"],
      ["task", "local"],
    ],
    reread: "Implement Steam Modal",
    statuses: ["paused", "active", "completed", "completed", "crashed"],
    checkpoints: [
      { step: 5, state: { files: ["a.ts"] }, resume_prompt: "Continue from step 5" },
      expect.objectContaining({ step: 3, state_snapshot: { files_modified: ["a.ts", "b.ts"], test_results: null } }),
      expect.objectContaining({ last_completed_step: 3, pending_actions: ["run tests", "commit"] }),
    ],
    progress: 0.75,
    listed: Array.from({ length: 3 }, () => ["task", "conversation", "development"]),
    refused: "precondition_failed",
    health: "ok",
  });
});
