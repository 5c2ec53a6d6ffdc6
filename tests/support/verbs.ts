/** What each verb makes of a session in each phase, as the design writes it: a second source to compare the service with. */

import type { Phase } from "../../src/sessions/lifecycle.ts";

/* "=" is there already, "+" begins another attempt, "-" is refused. Nobody holds a lease. */
const table = `
  phase          start     pause   resume    stop     complete   fail    crash    recover   restart   request-exit
  pending        running   -       running   stopped  -          failed  -        =         =         =
  starting       running   -       running   stopped  -          failed  crashed  -         -         =
  running        =         paused  =         stopped  completed  failed  crashed  -         -         =
  ready          =         paused  =         stopped  completed  failed  crashed  -         -         =
  busy           =         paused  =         stopped  completed  failed  crashed  -         -         =
  waiting_input  =         paused  =         stopped  completed  failed  crashed  -         -         =
  stopping       -         -       -         stopped  completed  failed  crashed  -         -         =
  paused         running   =       running   -        completed  failed  crashed  -         pending+  =
  idle           running   =       running   -        completed  failed  crashed  -         pending+  =
  stopped        running   =       running   =        completed  failed  crashed  -         pending+  =
  completed      -         -       -         -        =          -       -        -         pending+  -
  failed         running+  -       running+  -        completed  =       =        pending+  pending+  -
  crashed        running+  -       running+  -        completed  -       =        pending+  pending+  -
  expired        -         -       -         -        -          -       =        -         -         -
  timed_out      -         -       -         -        -          -       =        -         -         -`;

/** Where each verb would have led, and what a refusal calls that. */
export const refusedAs = {
  start: ["running", "running"],
  pause: ["paused", "paused"],
  resume: ["running", "running"],
  stop: ["stopped", "stopped"],
  complete: ["completed", "completed"],
  fail: ["failed", "failed"],
  crash: ["crashed", "crashed"],
  recover: ["pending", "pending"],
  restart: ["pending", "pending"],
  "request-exit": ["stopping", "exit_requested"],
} as const satisfies Record<string, readonly [to: Phase, word: string]>;

export type VerbName = keyof typeof refusedAs;

export interface VerbCell {
  readonly verb: VerbName;
  readonly from: Phase;
  /** Undefined: refused. */
  readonly to: Phase | undefined;
  readonly newAttempt: boolean;
}

const [head = [], ...rows] = table
  .trim()
  .split("\n")
  .map((line) => line.trim().split(/\s+/));

/** One for each phase and verb. */
export const verbCells: readonly VerbCell[] = rows.flatMap(([phase, ...cells]) => {
  const from = phase as Phase;
  return cells.map((cell, at): VerbCell => {
    const to = cell === "=" ? from : (cell.replace("+", "") as Phase);
    return { verb: head[at + 1] as VerbName, from, to: cell === "-" ? undefined : to, newAttempt: cell.endsWith("+") };
  });
});
