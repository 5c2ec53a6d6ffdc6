import { spawn, spawnSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { textOf } from "../house/sources.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { until } from "../support/until.ts";
import { missing } from "./example.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

/** The first shell snippet below a heading. */
function snippetBelow(heading: string): string {
  const [, below = ""] = textOf("docs/bulk.md").split(`## ${heading}`);
  return /```sh\n([\s\S]*?)```/.exec(below)?.[1] ?? "";
}

/** Runs it without blocking the service, which is in this process. */
async function run(script: string): Promise<string> {
  const child = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "ignore"] });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  await new Promise((resolve) => child.once("close", resolve));
  return printed;
}

describe("docs/bulk.md", () => {
  const canRun = missing("curl", "sed").length === 0 && spawnSync("date", ["-u", "-d", "30 days ago"]).status === 0;

  it.runIf(canRun)(
    "has a snippet that deletes the completed sessions that are older than 30 days, and no others",
    async () => {
      const [old = "", young = "", running = ""] = await Promise.all([1, 2, 3].map(() => service.create()));
      for (const id of [old, young]) await service.request("POST", `/sessions/${id}/complete`);
      for (const id of [old, running]) {
        await service.database.sql`
        update sessions set created_at = now() - interval '40 days',
          ended_at = case when ended_at is not null then now() - interval '31 days' end
        where id = ${id}`;
      }
      const snippet = snippetBelow("Delete completed sessions older than 30 days");
      const printed = await run(snippet.replace("localhost:8011", service.url));
      const job = JSON.parse(printed);
      expect(job).toMatchObject({ action: "delete", planned: 1 });
      await until(
        async () => (await service.request("GET", `/jobs/${job.id}`)).body.state === "completed",
        "the job to end",
      );
      expect((await service.request("GET", `/sessions/${old}`)).status).toBe(404);
      expect((await service.request("GET", `/sessions/${young}`)).status).toBe(200);
      expect((await service.request("GET", `/sessions/${running}`)).status).toBe(200);
    },
  );
});
