/** The verbs of the API, and what each of them makes of a session. Pure: the transition table says from where. */

import { endedPhases, livePhases, type Phase, phases, phasesThatMayEnter, statusOf } from "./lifecycle.ts";

/** What a session shall be: it stays as it is in one of the phases that are meant, else it enters the entry. */
export interface Target {
  /** As a refusal calls it. */
  readonly word: string;
  readonly means: readonly Phase[];
  readonly entry: Phase;
  /** The phases that may be left for it; by default those of the transition table. */
  readonly allowed?: readonly Phase[];
  /** The phase that it enters instead, unless somebody else than the writer holds its lease. */
  readonly entryUnlessHeld?: Phase;
  /** Entering it begins another attempt, whatever the session was. */
  readonly newAttempt?: boolean;
}

const working = livePhases.filter((phase) => phase !== "starting" && phase !== "stopping");
const crashes = phases.filter((phase) => statusOf[phase] === "crashed");

function target(entry: Phase, means: readonly Phase[] = [entry]): Target {
  return { word: entry, entry, means };
}

/** A session that is recovered waits to be claimed again, as another attempt. */
const recovery = {
  ...target("pending"),
  allowed: phasesThatMayEnter("pending").filter((phase) => crashes.includes(phase)),
  newAttempt: true,
} satisfies Target;

/** What each verb asks for; the table says who may be asked. */
export const actions = {
  start: target("running", working),
  /** Its runtime is coming up. */
  starting: target("starting", livePhases),
  pause: target(
    "paused",
    phases.filter((phase) => statusOf[phase] === "paused"),
  ),
  resume: target("running", working),
  /** Somebody who holds the lease is asked to come to an end, and stops it when that is done. */
  stop: { ...target("stopping", ["stopped"]), word: "stopped", entryUnlessHeld: "stopped" },
  complete: target("completed"),
  fail: target("failed"),
  crash: target("crashed", crashes),
  recover: recovery,
  recoverByForce: { ...recovery, allowed: crashes },
  restart: {
    ...target("pending"),
    allowed: [...phasesThatMayEnter("pending"), "completed"],
    newAttempt: true,
  },
  /** Whoever works on it is to come to an end; the phase stays. */
  requestExit: {
    word: "exit_requested",
    entry: "stopping",
    means: phases.filter((phase) => !(endedPhases as readonly Phase[]).includes(phase)),
    allowed: [],
  },
} as const satisfies Record<string, Target>;
