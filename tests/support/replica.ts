/** Another process of the service, as it were: on the same database. */

import { readConfig } from "../../src/config.ts";
import { startService } from "../../src/main.ts";
import type { TestService } from "./service.ts";

export interface Replica extends AsyncDisposable {
  readonly url: string;
  stop(): Promise<void>;
}

/** @param settings environment variables; the database, Redis and port are filled in */
export async function startReplica(of: TestService, settings: Record<string, string> = {}): Promise<Replica> {
  const config = readConfig({
    PORT: "0",
    LOG_LEVEL: "silent",
    STOP_DELAY_MS: "0",
    DATABASE_URL: of.database.url,
    REDIS_URL: of.redisUrl,
    ...settings,
  });
  const service = await startService(config, () => {});
  const stop = async () => {
    service.stop();
    await service.stopped;
  };
  return { url: service.url, stop, [Symbol.asyncDispose]: stop };
}
