/** The connection to Redis: publishing in order, and telling whether it answers. */

import { Redis } from "ioredis";

export interface Broker {
  /**
   * Publishes messages in their order, and returns once Redis has taken all of them.
   *
   * @throws when Redis is away, refuses or does not answer in time: then any first part of them may have been published
   */
  publish(messages: readonly { readonly channel: string; readonly message: string }[]): Promise<void>;
  /** Whether Redis answers, within half a second. */
  isUp(): Promise<boolean>;
  close(): Promise<void>;
}

/** A Redis that hangs is given up after this long; a pipeline of 500 messages takes a few milliseconds. */
const commandTimeoutMs = 2_000;
const pingTimeoutMs = 500;

/** Connects in the background, and again whenever the connection is lost. */
export function connectBroker(url: string, onError: (error: Error) => void): Broker {
  const options = {
    connectionName: "session-service",
    // Nothing waits in memory for Redis to return: what is unpublished waits in the database.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    connectTimeout: 2_000,
    retryStrategy: (times: number) => Math.min(times * 50, 500),
  };
  const publisher = new Redis(url, { ...options, commandTimeout: commandTimeoutMs });
  // A ping that waits behind a pipeline would say more of the pipeline than of Redis.
  const pinger = new Redis(url, { ...options, commandTimeout: pingTimeoutMs });
  publisher.on("error", onError);
  pinger.on("error", () => {});
  return {
    async publish(messages) {
      const pipeline = publisher.pipeline();
      for (const { channel, message } of messages) pipeline.publish(channel, message);
      try {
        const answers = (await pipeline.exec()) ?? [];
        const failure = answers.find(([error]) => error !== null)?.[0];
        if (failure) throw failure;
      } catch (error) {
        // An answer that comes late must not be taken for that of a later command, and a half-open connection never
        // recovers by itself.
        if (publisher.status === "ready" && isTimeout(error)) publisher.disconnect(true);
        throw error;
      }
    },
    async isUp() {
      return pinger.ping().then(
        () => true,
        () => false,
      );
    },
    async close() {
      publisher.disconnect();
      pinger.disconnect();
    },
  };
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && /timed out/i.test(error.message);
}
