/** The connection to Redis: publishing in order, a nudge from process to process, and telling whether it answers. */

import { Redis, type Result } from "ioredis";

/** A message for some channels, and its entry for the stream, if it is to have one: names and values by turns. */
export interface Delivery {
  readonly channels: readonly string[];
  readonly message: string;
  readonly entry?: readonly string[] | undefined;
}

/** What processes that share a database tell each other: go and look. Nothing is lost when one is not heard. */
export type Nudge = "committed" | "settled";

export interface Broker {
  /**
   * Delivers in order, and returns once Redis has taken all. Redis takes all or nothing: one that is out of memory, or may
   * only be read, publishes nothing of what it can't keep in the stream.
   *
   * @throws when Redis is away, refuses or does not answer in time: in the latter case they may have been delivered
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

/*
 * One command for a batch: a command for each message costs this process three times as much. The entries come first,
 * for it is there that Redis refuses: then nothing has been published that would be published again with each retry.
 */
const deliver = `
  local length, next = ARGV[1], 2
  while next <= #ARGV do
    local channels, fields = tonumber(ARGV[next]), tonumber(ARGV[next + 1])
    local message = next + 2 + channels
    if fields > 0 then
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', length, '*', unpack(ARGV, message + 1, message + fields))
    end
    next = message + fields + 1
  end
  next = 2
  while next <= #ARGV do
    local channels, fields = tonumber(ARGV[next]), tonumber(ARGV[next + 1])
    local message = next + 2 + channels
    for channel = next + 2, message - 1 do redis.call('PUBLISH', ARGV[channel], ARGV[message]) end
    next = message + fields + 1
  end`;

declare module "ioredis" {
  interface RedisCommander<Context> {
    deliverEvents(stream: string, streamLength: number, ...deliveries: (string | number)[]): Result<null, Context>;
  }
}

export interface BrokerOptions {
  readonly url: string;
  readonly stream: string;
  /** About how many entries the stream keeps; 0: there is none. */
  readonly streamLength: number;
  /** Called once an outage. */
  readonly onError: (error: Error) => void;
}

/** Connects in the background, and again whenever the connection is lost. */
export function connectBroker({ url, stream, streamLength, onError }: BrokerOptions): Broker {
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
  publisher.defineCommand("deliverEvents", { numberOfKeys: 1, lua: deliver });
  let isAway = false;
  publisher.on("error", (error) => {
    if (!isAway) onError(error);
    isAway = true;
  });
  publisher.on("ready", () => {
    isAway = false;
  });
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
      const texts = deliveries.flatMap(({ channels, message, entry = [] }) => {
        const fields = streamLength > 0 ? entry : [];
        return [channels.length, fields.length, ...channels, message, ...fields];
      });
      try {
        await publisher.deliverEvents(stream, streamLength, ...texts);
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
