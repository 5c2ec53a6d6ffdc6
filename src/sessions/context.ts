/** What every command and every read is told beside its input: for whom, and on whose behalf. */

import { randomFillSync } from "node:crypto";
import { v7 } from "uuid";

export interface RequestContext {
  readonly namespace: string;
  readonly requestId: string;
  readonly actor?: string;
  readonly correlationId?: string;
  readonly traceparent?: string;
  /** What the caller waits on for its answer: once that is destroyed, nobody would hear of one. */
  readonly connection?: { readonly destroyed: boolean };
}

/** Whether the caller has left: what has not been begun on its behalf need not be done. */
export function isGone({ connection }: RequestContext): boolean {
  return connection?.destroyed === true;
}

const randomBytes = Buffer.alloc(4096);
let used = randomBytes.length;

/**
 * A time-ordered id (RFC 9562, version 7): neighbours in time are neighbours in the index. The random bits are drawn many
 * at a time, which makes an id in a sixth of the time.
 */
export function newId(): string {
  if (used === randomBytes.length) {
    randomFillSync(randomBytes);
    used = 0;
  }
  const random = randomBytes.subarray(used, used + 16);
  used += random.length;
  return v7({ random });
}

/** The `metadata` of the events that a command writes, as JSON text. */
export function eventMetadata(context: RequestContext): string {
  return JSON.stringify({
    request_id: context.requestId,
    actor: context.actor,
    correlation_id: context.correlationId,
    traceparent: context.traceparent,
  });
}
