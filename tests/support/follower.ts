/** A reader of an event stream as browsers have it: it comes back when told to, and goes on from where it was. */

import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";

export interface Follower extends AsyncDisposable {
  /** The `event_id` of everything received, in the order of arrival, over all connections. */
  readonly events: readonly string[];
  /** How its connections ended that have ended. */
  readonly endings: readonly Ending[];
  /** Whether its connection is open. */
  isOpen(): boolean;
}

export interface Ending {
  /** Undefined: it could not connect. */
  readonly status: number | undefined;
  /** Ended as an answer ends, and not broken off. */
  readonly whole: boolean;
  /** The last thing that it was told: when to come back. */
  readonly retryMs: number | undefined;
}

/** Follows a stream from its beginning. */
export function follow(url: string): Follower {
  const dispatcher = new Agent({ bodyTimeout: 60_000 });
  const stopping = new AbortController();
  const events: string[] = [];
  const endings: Ending[] = [];
  let isOpen = false;
  let lastEventId = "0";
  let retryMs = 1_000;

  const readOnce = async (): Promise<Ending> => {
    let status: number | undefined;
    let lastRetry: number | undefined;
    let rest = "";
    const take = (block: string) => {
      const fields = new Map(
        block.split("\n").map((line) => [line.slice(0, line.indexOf(":")), line.replace(/^\w*: ?/, "")]),
      );
      const retry = fields.get("retry");
      lastRetry = retry === undefined ? undefined : Number(retry);
      retryMs = lastRetry ?? retryMs;
      lastEventId = fields.get("id") ?? lastEventId;
      const data = fields.get("data");
      if (data !== undefined) events.push((JSON.parse(data) as { event_id: string }).event_id);
    };
    try {
      const headers = { accept: "text/event-stream", "last-event-id": lastEventId };
      const answer = await request(url, { dispatcher, headers, signal: stopping.signal });
      status = answer.statusCode;
      answer.body.setEncoding("utf8");
      isOpen = status === 200;
      for await (const chunk of answer.body) {
        const blocks = `${rest}${chunk}`.split("\n\n");
        rest = blocks.pop() ?? "";
        for (const block of blocks) take(block);
      }
      return { status, whole: rest === "", retryMs: lastRetry };
    } catch {
      return { status, whole: false, retryMs: lastRetry };
    } finally {
      isOpen = false;
    }
  };
  const following = (async () => {
    while (!stopping.signal.aborted) {
      const ending = await readOnce();
      if (stopping.signal.aborted) break;
      endings.push(ending);
      await sleep(retryMs, undefined, { signal: stopping.signal }).catch(() => {});
    }
  })();
  return {
    events,
    endings,
    isOpen: () => isOpen,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await following;
      await dispatcher.destroy();
    },
  };
}
