/** Answers about leases, and what a worker is told that can't have one. */

import { rfc3339 } from "../db/time.ts";
import { errors } from "../errors.ts";
import type { ServiceError } from "../service-error.ts";
import type { LeaseResult, LeaseRow } from "../sessions/lease.ts";
import { type Phase, statusOf } from "../sessions/lifecycle.ts";

/** As JSON text, its fields in the order of the Lease schema. */
export function leaseText({ lease_expires_at: expiresAt, last_activity_at: lastActivityAt, ...row }: LeaseRow): string {
  return JSON.stringify({
    id: row.id,
    status: row.status,
    phase: row.phase,
    version: row.version,
    attempt: row.attempt,
    exit_requested: row.exit_requested ?? false,
    lease_owner: row.lease_owner,
    lease_token: row.lease_token,
    lease_expires_at: expiresAt === null ? null : rfc3339(expiresAt),
    last_activity_at: rfc3339(lastActivityAt),
  });
}

/** What a command on the lease was refused with, as a problem. */
export function leaseRefusal(result: Exclude<LeaseResult, { outcome: "ok" }>): ServiceError {
  switch (result.outcome) {
    case "lease_lost":
      return errors.leaseLost();
    case "lease_held":
      return errors.leaseHeld(result.owner, rfc3339(result.expiresAt));
    case "not_live":
      return errors.sessionNotLive(result.phase, whatNext(result.phase));
    case "not_found":
      return errors.sessionNotFound();
  }
}

function whatNext(phase: Phase): string {
  if (phase === "pending") return "Claim it, or start it first.";
  switch (statusOf[phase]) {
    case "completed":
      return "Its work is done: stop working on it. POST /restart would begin it anew.";
    case "crashed":
      return "Stop working on it. POST /recover would let it be claimed again.";
    default:
      return "Start or resume it first.";
  }
}
