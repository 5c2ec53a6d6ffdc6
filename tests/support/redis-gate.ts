/**
 * A door between the service and Redis, at a fixed address: closed, it refuses connections. A subscriber that goes by
 * the back door misses nothing, so a test can tell what was never published from what nobody listened to.
 */

import { createConnection, createServer, type Server, type Socket } from "node:net";
import { quietPort } from "./process.ts";

export interface RedisGate extends AsyncDisposable {
  readonly url: string;
  /** Lets through to the Redis at this URL. */
  open(redisUrl: string): Promise<void>;
  /** Cuts what is open, and refuses from now on. */
  close(): Promise<void>;
}

/** Makes a gate, closed as yet. */
export async function redisGate(): Promise<RedisGate> {
  const port = await quietPort();
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => sockets.delete(socket));
  };
  const close = async () => {
    const closing = server;
    server = undefined;
    if (closing === undefined) return;
    const closed = new Promise((resolve) => closing.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  return {
    url: `redis://127.0.0.1:${port}`,
    close,
    async open(redisUrl) {
      await close();
      const target = new URL(redisUrl);
      const opened = createServer((client) => {
        const upstream = createConnection(Number(target.port), target.hostname);
        keep(client);
        keep(upstream);
        client.pipe(upstream).pipe(client);
        client.once("close", () => upstream.destroy());
        upstream.once("close", () => client.destroy());
      });
      await new Promise<void>((resolve, reject) => {
        opened.once("error", reject);
        opened.listen(port, "127.0.0.1", resolve);
      });
      server = opened;
    },
    [Symbol.asyncDispose]: close,
  };
}
