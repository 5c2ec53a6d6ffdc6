/** What runs unasked: a task again and again, with a pause between, until it is stopped. */

import { setTimeout as sleep } from "node:timers/promises";

export interface LoopOptions {
  /** Does a bounded piece of work, and says whether there is more: then it is called again at once. */
  readonly task: (signal: AbortSignal) => Promise<boolean>;
  readonly everyMs: number;
  readonly onError: (error: unknown) => void;
}

export interface Loop {
  /** Ends the pause: there is work. */
  wake(): void;
  /** Lets what runs finish, and starts nothing more. */
  stop(): Promise<void>;
}

/** How far a pause may be from its length: replicas that were started together shall not stay together. */
const jitter = 0.2;

/** Starts the loop, with a pause; a task that fails is tried again after the next one. */
export function startLoop({ task, everyMs, onError }: LoopOptions): Loop {
  const stopping = new AbortController();
  let rest = new AbortController();
  const run = async () => {
    while (!stopping.signal.aborted) {
      const ms = everyMs * (1 + jitter * (2 * Math.random() - 1));
      await sleep(ms, undefined, { signal: rest.signal, ref: false }).catch(() => {});
      rest = new AbortController();
      let more = true;
      while (more && !stopping.signal.aborted) {
        more = await task(stopping.signal).catch((error: unknown) => {
          onError(error);
          return false;
        });
      }
    }
  };
  const running = run();
  return {
    wake: () => rest.abort(),
    async stop() {
      stopping.abort();
      rest.abort();
      await running;
    },
  };
}
