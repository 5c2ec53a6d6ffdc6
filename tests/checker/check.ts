/**
 * The checker: whether every change became an event that nobody lost. Run after each fault, on what is left then.
 *
 *   rows ◄── folding ── history ──► channels ──► subscribers' union
 *                          └──────► stream
 */

import { deliveryViolations, streamViolations } from "./deliveries.ts";
import type { DeliveryLog, History, StreamEvidence } from "./evidence.ts";
import { historyViolations } from "./history.ts";

export interface Evidence {
  readonly history: History;
  /** What subscribers received from the first event on. */
  readonly log?: DeliveryLog | undefined;
  readonly stream?: StreamEvidence | undefined;
}

/** Every violation, in a sentence; none: all is well. */
export function check({ history, log, stream }: Evidence): string[] {
  return [
    ...historyViolations(history),
    ...(log === undefined ? [] : deliveryViolations(history, log)),
    ...(stream === undefined ? [] : streamViolations(history, stream)),
  ];
}
