/** What a change asks for, and the same as the input of a statement: JSON, in which documents stand as they were sent. */

import type { Target } from "./actions.ts";
import { newId } from "./context.ts";
import type { ContextEdit } from "./context-edit.ts";
import type { Details, Outcome, Settings } from "./fields.ts";
import { type Phase, phasesThatMayEnter } from "./lifecycle.ts";

/** What to change; what is undefined stays. Documents are JSON texts of objects. */
export interface SessionChange extends Outcome {
  readonly id: string;
  /** By which it was found: a session that does not have it any more is not the one that was meant. */
  readonly foundBy?: string | undefined;
  /** The versions that If-Match names; undefined: any. */
  readonly expectedVersions?: readonly number[] | undefined;
  /** The fencing token of the lease that the writer believes to hold: it is then renewed, or the change refused. */
  readonly leaseToken?: number | undefined;
  readonly state?: Target | undefined;
  /** Why the session goes to another phase; says nothing when it does not. */
  readonly reason?: string | undefined;
  /** The phases in which it leaves a last checkpoint, where its context has changed since the one before. */
  readonly finalPhases?: readonly Phase[] | undefined;
  /** Whether a session that is paused by this, or has been set aside already, may be claimed again. */
  readonly autoResume?: boolean | undefined;
  readonly context?: string | undefined;
  readonly contextEdit?: ContextEdit | undefined;
  /** How many bytes it may make of the context. */
  readonly contextLimit?: number | undefined;
  /** What the change of the context is about, for its event. */
  readonly changeSummary?: string | undefined;
  /** null clears it. */
  readonly checkpoint?: string | null | undefined;
  readonly runtimeBackend?: string | undefined;
  readonly runtimeMetadata?: string | undefined;
  readonly settings?: Settings | undefined;
  readonly details?: Details | undefined;
  /** Whether the checkpoint, the runtime's metadata, the details, the error and the result are merge patches (RFC 7396). */
  readonly merges?: boolean | undefined;
  /** How many bytes that may make of the checkpoint. */
  readonly checkpointLimit?: number | undefined;
  /** And of each of the others. */
  readonly memberLimit?: number | undefined;
}

/** The input of a change, as the statements read it. */
export function inputText(change: SessionChange, metadata: string): string {
  const { state, details, merges = false } = change;
  const fields = JSON.stringify({
    id: change.id,
    found_by: change.foundBy,
    event_id: newId(),
    expected: change.expectedVersions,
    lease_token: change.leaseToken,
    enter: state?.entry,
    unless_held: state?.entryUnlessHeld,
    means: state?.means,
    allowed: state && (state.allowed ?? phasesThatMayEnter(state.entryUnlessHeld ?? state.entry)),
    new_attempt: state?.newAttempt,
    reason: change.reason,
    auto_resume: change.autoResume,
    final_phases: change.finalPhases,
    set_checkpoint: change.checkpoint !== undefined,
    runtime_backend: change.runtimeBackend,
    settings: change.settings,
    details_cleared:
      details && !merges ? [...details].filter(([, text]) => text === "null").map(([name]) => name) : undefined,
    set_error: change.error !== undefined,
    set_result: change.result !== undefined,
    clear_stats: change.clearStats,
    change_summary: change.changeSummary,
    context_limit: change.contextLimit,
    merges: change.merges,
    checkpoint_limit: change.checkpointLimit,
    member_limit: change.memberLimit,
  });
  const documents = {
    metadata,
    context: change.context,
    ...change.contextEdit,
    checkpoint: change.checkpoint,
    runtime_metadata: change.runtimeMetadata,
    details: details && (merges ? membersText([...details]) : detailsText(details)),
    error: change.error,
    result: change.result,
    stats: change.stats,
    stats_set: change.statsSet,
    stats_max: change.statsMax,
  };
  const members = Object.entries(documents)
    .filter(([, text]) => text !== undefined)
    .map(([name, text]) => `"${name}":${text}`);
  return `${fields.slice(0, -1)},${members.join(",")}}`;
}

/** Details that are set, as JSON text of one object; those that are cleared are left out. */
export function detailsText(details: Details): string {
  return membersText([...details].filter(([, text]) => text !== "null"));
}

function membersText(members: readonly (readonly [name: string, text: string])[]): string {
  return `{${members.map(([name, text]) => `"${name}":${text}`).join(",")}}`;
}
