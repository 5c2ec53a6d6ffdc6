/** `npm start` without any setting: the embedded engines, in this process. */

import { chmodSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, inject, it } from "vitest";
import { readConfig } from "../../src/config.ts";
import { startService } from "../../src/main.ts";
import { createDatabase } from "../support/database.ts";
import { freePort } from "../support/engines.ts";
import { startProxy } from "../support/proxy.ts";
import { agentId, send, subscribe } from "../support/service.ts";
import { until } from "../support/until.ts";

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

  it("ends with an error when an engine dies, so that whoever watches it starts it again", async () => {
    const folder = mkdtempSync(join(tmpdir(), "session-embedded-"));
    chmodSync(folder, 0o755);
    try {
      const service = await startService(
        readConfig({ PORT: "0", DATA_DIR: folder, REDIS_URL: inject("redisUrl"), LOG_LEVEL: "silent" }),
        () => {},
      );
      const [pid] = readFileSync(join(folder, "postgres", "postmaster.pid"), "utf8").split("\n");
      process.kill(Number(pid), "SIGKILL");
      expect(await service.stopped).toBe(1);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("the service with engines of one's own", () => {
  it("waits for a database that is away, and says so; meanwhile it answers that it is starting", async () => {
    const database = await createDatabase();
    const { hostname, port } = new URL(database.url);
    const closed = await freePort();
    const away = new URL(database.url);
    away.port = String(closed);
    const lines: string[] = [];
    const listening = await freePort();
    const starting = startService(
      readConfig({
        PORT: String(listening),
        DATABASE_URL: away.href,
        REDIS_URL: inject("redisUrl"),
        LOG_LEVEL: "silent",
      }),
      (line) => lines.push(line),
    );
    await until(() => lines.includes(`Waiting for the database at 127.0.0.1:${closed} …`), "it to say so");
    expect((await send(`http://127.0.0.1:${listening}/sessions/`, "GET")).body.code).toBe("starting");
    await using _proxy = await startProxy({ host: hostname, port: Number(port) }, closed);
    const service = await starting;
    expect((await send(`${service.url}/sessions/`, "GET")).status).toBe(200);
    service.stop();
    expect(await service.stopped).toBe(0);
    await database.drop();
  });
});
