/** A network between a client and a server that can be made slow, to swallow everything, or be cut. */

import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface TestProxy extends AsyncDisposable {
  readonly port: number;
  /** From now on nothing passes, either way; connections stay open and new ones are taken. */
  freeze(): void;
  /** What was held passes. */
  thaw(): void;
  /** From now on everything takes so much longer, each way. */
  delay(ms: number): void;
  /** Breaks every connection; new ones are taken. */
  cut(): void;
}

/** @param port where it listens; any free one unless given */
export async function startProxy(target: { host: string; port: number }, port = 0): Promise<TestProxy> {
  const pairs = new Set<readonly [Socket, Socket]>();
  let frozen = false;
  let delayMs = 0;
  /** Hands chunks on in their order, each after the delay. */
  const towards = (socket: Socket) => {
    let before = Promise.resolve();
    return (chunk: Buffer) => {
      const due = performance.now() + delayMs;
      before = before.then(async () => {
        if (performance.now() < due) await sleep(due - performance.now());
        socket.write(chunk);
      });
    };
  };
  const apply = ([client, server]: readonly [Socket, Socket]) => {
    for (const socket of [client, server]) {
      if (frozen) socket.pause();
      else socket.resume();
    }
  };
  const server = createServer((client) => {
    const upstream = connect(target.port, target.host);
    const pair = [client, upstream] as const;
    pairs.add(pair);
    client.on("data", towards(upstream));
    upstream.on("data", towards(client));
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        pairs.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
    apply(pair);
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const address = server.address();
  const cut = () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy();
  };
  const set = (state: boolean) => {
    frozen = state;
    for (const pair of pairs) apply(pair);
  };
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    freeze: () => set(true),
    thaw: () => set(false),
    delay(ms) {
      delayMs = ms;
    },
    cut,
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The same URL, by way of the proxy. */
export function through(proxy: TestProxy, url: string): string {
  const by = new URL(url);
  by.hostname = "127.0.0.1";
  by.port = String(proxy.port);
  return by.href;
}
