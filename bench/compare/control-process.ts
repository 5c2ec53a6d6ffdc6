/**
 * The control as a process, compiled as the service is: under a loader that compiles as it goes it answered 3 % less, and
 * a slower yardstick would flatter the service.
 */

import { spawn, spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export interface Control extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
}

const bench = fileURLToPath(new URL("../", import.meta.url));

/** Compiles it, and starts it on a database that has the service's tables. */
export async function startControl(databaseUrl: string): Promise<Control> {
  compile();
  const child = spawn(process.execPath, [join(bench, "results/control/control.js")], {
    env: { ...process.env, CONTROL_DATABASE_URL: databaseUrl, NODE_ENV: "production" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const killAtExit = () => child.kill("SIGKILL");
  process.once("exit", killAtExit);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString().trim()));
    child.once("exit", () => reject(new Error("the control did not start")));
  });
  return {
    url,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

function compile(): void {
  const manifest = createRequire(import.meta.url).resolve("typescript/package.json");
  const args = [join(dirname(manifest), "bin/tsc"), "-p", join(bench, "tsconfig.control.json")];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`the control does not compile:\n${stdout}`);
}
