/** The socket under the app: bound, taken, drained. */

import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { type HttpServer, ListenError, listen } from "../../src/http/server.ts";
import { until } from "../support/until.ts";

describe("listening", () => {
  it("names who has a taken port, and another way", async () => {
    const server = await listen("127.0.0.1", 0);
    try {
      const error = await listen("127.0.0.1", server.port).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(ListenError);
      const { message } = error as ListenError;
      expect(message).toContain(`127.0.0.1:${server.port} is taken`);
      if (process.platform === "linux") expect(message).toContain(`by process ${process.pid}`);
      expect(message).toContain("PORT=");
    } finally {
      await server.drain(0);
    }
  });

  it("lets 16 KiB wait of a connection, whatever Node.js would", async () => {
    const server = await listen("127.0.0.1", 0);
    try {
      server.serve((_, response) => response.end(String(response.writableHighWaterMark)));
      expect(await (await fetch(server.url)).text()).toBe(String(16 * 1024));
    } finally {
      await server.drain(0);
    }
  });

  it("says so when the address is none of this machine's", async () => {
    await expect(listen("203.0.113.1", 0)).rejects.toThrow(/Set HOST/);
  });

  it("writes an IPv6 address as URLs do", async () => {
    const server = await listen("::1", 0).catch(() => undefined);
    if (server === undefined) return;
    expect(server.url).toMatch(/^http:\/\/\[::1\]:\d+$/);
    await server.drain(0);
  });
});

describe("draining", () => {
  /** A server that answers when it is told to. */
  async function slowServer(): Promise<{ server: HttpServer; running: () => number; finish: () => void }> {
    const server = await listen("127.0.0.1", 0);
    const waiting: (() => void)[] = [];
    server.serve((_, response) => waiting.push(() => response.end("done")));
    return {
      server,
      running: () => waiting.length,
      finish: () => {
        for (const end of waiting.splice(0)) end();
      },
    };
  }

  it("waits for what still answers, and takes nothing new", async () => {
    const { server, running, finish } = await slowServer();
    const answer = fetch(server.url).then((response) => response.text());
    await until(() => running() === 1, "the request");
    const drained = server.drain(10_000);
    await expect(fetch(server.url)).rejects.toThrow();
    finish();
    expect(await answer).toBe("done");
    await drained;
  });

  it("closes connections that are idle at once, and cuts what never ends", async () => {
    const { server, running } = await slowServer();
    const idle = connect(server.port, "127.0.0.1");
    await new Promise((resolve) => idle.once("connect", resolve));
    const closed = new Promise((resolve) => idle.once("close", resolve));
    const answer = fetch(server.url).then(
      () => "answered",
      () => "cut",
    );
    await until(() => running() === 1, "the request");
    const began = performance.now();
    await server.drain(200);
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(await answer).toBe("cut");
    await closed;
  });
});
