/** A PostgreSQL of the test's own, beside the service: it may be stopped, started again, frozen and killed. */

import { join } from "node:path";
import { type EmbeddedPostgres, startEmbeddedPostgres } from "../../src/embedded/postgres.ts";
import { dataFolder, type FolderProcess, quietPort, signalIfThere } from "./process.ts";

export interface PostgresServer extends AsyncDisposable {
  /** The same after each start. */
  readonly url: string;
  /** fast: clients are told; immediate: as after a crash. */
  stop(how: "fast" | "immediate"): Promise<void>;
  /** Starts it again, unless it runs. */
  start(): Promise<void>;
  /** Nobody answers any more, but every connection stays open. */
  freeze(): void;
  thaw(): void;
  /** The main process is killed, and so takes no connections; those that are open stay so, and hang. */
  orphan(): void;
  /** Every process of the server. */
  processes(): FolderProcess[];
}

/** Starts it on a new folder and a fixed port. */
export async function startPostgresServer(): Promise<PostgresServer> {
  const folder = dataFolder();
  const port = await quietPort();
  const processes = () => folder.processes().filter(({ command }) => !command.startsWith("/bin/sh"));
  const signalAll = (signal: NodeJS.Signals) => {
    for (const { pid } of processes()) signalIfThere(pid, signal);
  };
  const launch = async (): Promise<EmbeddedPostgres> => {
    const server = await startEmbeddedPostgres({ dataDir: join(folder.path, "postgres"), port });
    if (server.port === port) return server;
    await server.stop();
    throw new Error(`port ${port} was taken in the meantime`);
  };
  let server: EmbeddedPostgres | undefined = await launch().catch((error: unknown) => {
    folder[Symbol.dispose]();
    throw error;
  });
  const { url } = server as EmbeddedPostgres;
  return {
    url,
    processes,
    async stop(how) {
      if (server === undefined) return;
      if (how === "immediate") signalIfThere(server.pid, "SIGQUIT");
      await server.stop();
      server = undefined;
    },
    async start() {
      server ??= await launch();
    },
    freeze: () => signalAll("SIGSTOP"),
    thaw: () => signalAll("SIGCONT"),
    orphan() {
      signalAll("SIGSTOP");
      if (server !== undefined) signalIfThere(server.pid, "SIGKILL");
      server = undefined;
    },
    async [Symbol.asyncDispose]() {
      signalAll("SIGCONT");
      await server?.stop();
      folder[Symbol.dispose]();
    },
  };
}
