/** Who works on a session, as the API uses it: claims, leases, heartbeats, and a worker's end. */

import type { Queries } from "../db/client.ts";
import { isRefusal } from "../db/failures.ts";
import {
  type Claim,
  type ClaimedSession,
  type ClaimFilter,
  claimSessions,
  type Look,
  lookForClaimable,
} from "./claim.ts";
import { Coalescer } from "./coalesce.ts";
import { isGone, type RequestContext } from "./context.ts";
import { type Heartbeat, type HeartbeatResult, noteHeartbeats } from "./heartbeat.ts";
import { changeLease, type LeaseChange, type LeaseResult } from "./lease.ts";
import { areLocked } from "./locked.ts";
import { type PauseAll, pauseAll } from "./pause-all.ts";
import type { Transition } from "./transition-log.ts";

export interface Ownership {
  /** For claims of one namespace and one filter: a session for each, in their order, as far as there are any. */
  claim(asked: readonly AskedClaim[]): Promise<(ClaimedSession | undefined)[]>;
  /** Which of the filters a session would pass that has become claimable since the look before. */
  lookForClaimable(namespace: string, filters: readonly ClaimFilter[], since?: string): Promise<Look>;
  changeLease(context: RequestContext, change: LeaseChange): Promise<LeaseResult>;
  heartbeat(context: RequestContext, heartbeat: Heartbeat): Promise<HeartbeatResult>;
  /** The ids of the sessions that were set aside. */
  pauseAll(context: RequestContext, asked: PauseAll): Promise<string[]>;
}

/** A claim, and on whose behalf it is made. */
export interface AskedClaim {
  readonly context: RequestContext;
  readonly input: Claim;
}

interface AskedHeartbeat {
  readonly context: RequestContext;
  readonly input: Heartbeat;
}

export interface OwnershipOptions {
  /** False: each heartbeat is a statement of its own, as it must be in a transaction. */
  readonly coalesce: boolean;
  readonly onTransition?: (transition: Transition) => void;
}

/** @param database the pool, or a transaction: the commands are then part of it */
export function openOwnership(database: Queries, { coalesce, onTransition }: OwnershipOptions): Ownership {
  const beatAlone = async (asked: AskedHeartbeat): Promise<HeartbeatResult> => {
    const [result] = await noteHeartbeats(database, [asked]);
    return result ?? { outcome: "not_found" };
  };
  const beatOnce = async (asked: AskedHeartbeat): Promise<HeartbeatResult> => {
    const [result] = await noteHeartbeats(database, [asked], { wait: false });
    return result ?? beatAlone(asked);
  };
  const coalescer = new Coalescer<AskedHeartbeat, HeartbeatResult>({
    run: (asked) => noteHeartbeats(database, asked, { wait: false }),
    runAlone: beatAlone,
    isRefusal,
    group: ({ context }) => context.namespace,
    key: ({ context, input }) => `${context.namespace}/${input.id}`,
    areLocked: (asked) => areLocked(database, asked),
    isGone: ({ context }) => isGone(context),
  });
  const beat = coalesce ? (asked: AskedHeartbeat) => coalescer.add(asked) : beatOnce;
  return {
    async claim(asked) {
      const claimed = await claimSessions(database, asked);
      claimed.forEach((one, at) => {
        const context = asked[at]?.context;
        if (one !== undefined && context !== undefined) onTransition?.({ context, ...one });
      });
      return claimed;
    },
    lookForClaimable: (namespace, filters, since) => lookForClaimable(database, namespace, filters, since),
    changeLease: (context, change) => changeLease(database, context, change),
    heartbeat: (context, input) => beat({ context, input }),
    async pauseAll(context, asked) {
      const paused = await pauseAll(database, context, asked);
      for (const one of paused) onTransition?.({ context, ...one });
      return paused.map(({ session }) => session.id);
    },
  };
}
