/** The connection to Redis: publishing in order, a nudge from process to process, and telling whether it answers. */

import { Redis } from "ioredis";

/** A message for a channel, or an entry for a stream that keeps about so many. */
export type Delivery =
  | { readonly channel: string; readonly message: string }
  | { readonly stream: string; readonly length: number; readonly fields: readonly string[] };

/** What processes that share a database tell each other: go and look. Nothing is lost when one is not heard. */
export type Nudge = "committed" | "settled";

export interface Broker {
  /**
   * Delivers in order, and returns once Redis has taken all. Redis refuses all or takes all: one that is out of memory,
   * or may only be read, is not sent the half of them that it would take.
   *
   * @throws when Redis is away, refuses or does not answer in time: then they may have been delivered
   */
  publish(deliveries: readonly Delivery[]): Promise<void>;
  /** Tells the other processes, if Redis is there. */
  nudge(what: Nudge): void;
  onNudge(listener: (what: Nudge) => void): void;
  /** Whether Redis answers, within half a second. */
  isUp(): Promise<boolean>;
  close(): Promise<void>;
}

/** A Redis that hangs is given up after this long; a pipeline of 500 messages takes a few milliseconds. */
const commandTimeoutMs = 2_000;
const pingTimeoutMs = 500;

const nudges: Readonly<Record<Nudge, string>> = {
  committed: "session-service:committed",
  settled: "session-service:settled",
};

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
  const listener = new Redis(url, { ...options, autoResubscribe: false });
  publisher.on("error", onError);
  pinger.on("error", () => {});
  listener.on("error", () => {});
  listener.on("ready", () => {
    listener.subscribe(...Object.values(nudges)).catch(() => {});
  });
  const send = (what: Nudge) =>
    oneAtATime(async () => {
      if (publisher.status === "ready") await publisher.publish(nudges[what], "");
    });
  const senders: Readonly<Record<Nudge, () => void>> = { committed: send("committed"), settled: send("settled") };
  return {
    async publish(deliveries) {
      const transaction = publisher.multi();
      for (const delivery of deliveries) {
        if ("channel" in delivery) transaction.publish(delivery.channel, delivery.message);
        else transaction.xadd(delivery.stream, "MAXLEN", "~", delivery.length, "*", ...delivery.fields);
      }
      try {
        const answers = (await transaction.exec()) ?? [];
        const failure = answers.find(([error]) => error !== null)?.[0];
        if (failure) throw failure;
      } catch (error) {
        // An answer that comes late must not be taken for that of a later command, and a half-open connection never
        // recovers by itself.
        if (publisher.status === "ready" && isTimeout(error)) publisher.disconnect(true);
        throw error;
      }
    },
    nudge: (what) => senders[what](),
    onNudge(listen) {
      listener.on("message", (channel) => {
        const what = (Object.keys(nudges) as Nudge[]).find((nudge) => nudges[nudge] === channel);
        if (what !== undefined) listen(what);
      });
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
      listener.disconnect();
    },
  };
}

/** While one is under way, the next waits, and stands for all that are asked for meanwhile. */
function oneAtATime(send: () => Promise<void>): () => void {
  let underWay = false;
  let again = false;
  const run = async () => {
    underWay = true;
    do {
      again = false;
      await send().catch(() => {});
    } while (again);
    underWay = false;
  };
  return () => {
    again = true;
    if (!underWay) void run();
  };
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && /timed out/i.test(error.message);
}
