/** How long a request is kept waiting for what it asked for. */

import type { FastifyReply } from "fastify";

/** Given when the time is up, or the client has left. Aborting it takes back both. */
export function endOfWait(reply: FastifyReply, afterMs: number): AbortController {
  const end = new AbortController();
  const stop = () => end.abort();
  const timer = setTimeout(stop, afterMs);
  reply.raw.once("close", stop);
  end.signal.addEventListener("abort", () => {
    clearTimeout(timer);
    reply.raw.off("close", stop);
  });
  if (reply.raw.destroyed) stop();
  return end;
}
