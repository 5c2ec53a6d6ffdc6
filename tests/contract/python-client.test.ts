/** The older Python client (python_client.py), with python3's standard library alone. */

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { startTestService } from "../support/service.ts";

it("the Python client's calls are answered as it expects", async () => {
  await using service = await startTestService();
  const script = fileURLToPath(new URL("./python_client.py", import.meta.url));
  const { stdout } = await promisify(execFile)("python3", [script, service.url]);
  expect(stdout).toBe("ok\n");
});
