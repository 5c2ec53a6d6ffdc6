/** `npm start` without any setting: the embedded engines, in this process. */

import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readConfig } from "../../src/config.ts";
import { startService } from "../../src/main.ts";
import { agentId, send, subscribe } from "../support/service.ts";

describe("the service with its embedded engines", () => {
  it("prints what a person needs, keeps its data over a restart, and moves aside for another Redis", async () => {
    const folder = mkdtempSync(join(tmpdir(), "session-embedded-"));
    chmodSync(folder, 0o755);
    const occupant = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => occupant.once("listening", resolve));
    const address = occupant.address();
    const taken = typeof address === "object" && address !== null ? address.port : 0;
    const config = readConfig({ PORT: "0", DATA_DIR: folder, REDIS_PORT: String(taken), LOG_LEVEL: "silent" });
    let id = "";
    try {
      for (const start of ["first", "second"]) {
        const lines: string[] = [];
        const began = performance.now();
        const service = await startService(config, (line) => lines.push(line));
        expect(performance.now() - began).toBeLessThan(start === "first" ? 6_000 : 3_000);
        try {
          const banner = lines.join("\n");
          expect(banner).toContain(service.url);
          expect(banner).toContain(`${service.url}/docs`);
          expect(banner).toMatch(/psql postgres:\/\/\S+@127.0.0.1:\d+\/sessions/);
          const redisPort = Number(/redis-cli -p (\d+) subscribe events:session/.exec(banner)?.[1]);
          expect(redisPort).not.toBe(taken);
          await using events = await subscribe(`redis://127.0.0.1:${redisPort}`);
          if (start === "first") {
            id = (await send(`${service.url}/sessions/`, "POST", { agent_id: agentId })).body.id;
            await events.ofSession(id, 1);
          }
          expect((await send(`${service.url}/sessions/${id}`, "GET")).status).toBe(200);
        } finally {
          service.stop();
          expect(await service.stopped).toBe(0);
        }
      }
    } finally {
      occupant.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
