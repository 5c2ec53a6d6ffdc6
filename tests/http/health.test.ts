import postgres from "postgres";
import { describe, expect, inject, it } from "vitest";
import { startOwnRedis } from "../support/engines.ts";
import { startTestService } from "../support/service.ts";
import { until } from "../support/until.ts";

describe("health", () => {
  it("200 ok while everything works, in either slash form", async () => {
    await using service = await startTestService();
    for (const path of ["/health", "/health/", "/health/live", "/health/live/", "/health/ready", "/health/ready/"]) {
      expect(await service.request("GET", path), path).toMatchObject({
        status: 200,
        body: { status: "ok", database: "up", redis: "up" },
      });
    }
  });

  it("200 degraded without Redis: sessions work, and their events arrive when it is back", async () => {
    const redis = await startOwnRedis();
    await using service = await startTestService({ REDIS_URL: redis.url });
    const id = await service.create();
    await redis.stop();
    await until(async () => (await service.request("GET", "/health")).body.redis === "down", "Redis to be missed");
    for (const path of ["/health", "/health/ready"]) {
      expect(await service.request("GET", path)).toMatchObject({
        status: 200,
        body: { status: "degraded", database: "up", redis: "down" },
      });
    }
    expect((await service.request("PATCH", `/sessions/${id}`, { status: "paused" })).status).toBe(200);
    const again = await startOwnRedis({ port: Number(new URL(redis.url).port) });
    try {
      await until(async () => (await service.request("GET", "/health")).body.status === "ok", "Redis to be found");
    } finally {
      await again.stop();
    }
  });

  it("503 with the database gone, which live does not ask", async () => {
    await using service = await startTestService();
    const name = new URL(service.database.url).pathname.slice(1);
    // As good as gone: nobody is let in any more, and those who are in are thrown out.
    const admin = postgres(inject("adminUrl"), { max: 1 });
    try {
      await admin.unsafe(`alter database ${name} with allow_connections false`);
      await admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`;
      for (const path of ["/health", "/health/ready"]) {
        expect(await service.request("GET", path)).toMatchObject({
          status: 503,
          body: { status: "unavailable", database: "down", redis: "up" },
        });
      }
      expect((await service.request("GET", "/health/live")).status).toBe(200);
      const answer = await service.request("GET", "/sessions/");
      expect(answer).toMatchObject({ status: 503, body: { code: "database_unavailable" } });
      expect(answer.headers.get("retry-after")).toBe("1");
      await admin.unsafe(`alter database ${name} with allow_connections true`);
      await until(async () => (await service.request("GET", "/sessions/")).status === 200, "it to recover", {
        withinMs: 2_000,
      });
      expect((await service.request("GET", "/health")).body.status).toBe("ok");
    } finally {
      await admin.end();
    }
  });
});
