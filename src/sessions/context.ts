/** What every command and every read is told beside its input: for whom, and on whose behalf. */

import { v7 } from "uuid";

export interface RequestContext {
  readonly namespace: string;
  readonly requestId: string;
  readonly actor?: string;
  readonly correlationId?: string;
  readonly traceparent?: string;
}

/** Time-ordered ids (RFC 9562, version 7): neighbours in time are neighbours in the index. */
export const newId: () => string = v7;

/** The `metadata` of the events that a command writes, as JSON text. */
export function eventMetadata(context: RequestContext): string {
  return JSON.stringify({
    request_id: context.requestId,
    actor: context.actor,
    correlation_id: context.correlationId,
    traceparent: context.traceparent,
  });
}
