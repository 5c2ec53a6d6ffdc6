import { describe, expect, it } from "vitest";
import {
  endedPhases,
  initialPhases,
  livePhases,
  type Phase,
  phases,
  phasesThatMayEnter,
  statuses,
  statusOf,
  transitions,
} from "../../src/sessions/lifecycle.ts";
import { designRows } from "../support/phases.ts";

/** The table as the design writes it, cell by cell: a second source to compare with. */
const design: Record<Phase, string> = {
  pending: "starting running ready stopped failed expired",
  starting: "running ready busy stopping stopped failed crashed expired timed_out",
  running: "ready busy waiting_input stopping paused idle stopped completed failed crashed expired timed_out",
  ready: "running busy waiting_input stopping paused idle stopped completed failed crashed expired timed_out",
  busy: "running ready waiting_input stopping paused stopped completed failed crashed expired timed_out",
  waiting_input: "running ready busy stopping paused stopped completed failed crashed expired timed_out",
  stopping: "stopped completed failed crashed timed_out",
  paused: "pending starting running ready busy completed failed crashed expired",
  idle: "pending starting running ready busy completed failed crashed expired",
  stopped: "pending starting running ready busy completed failed crashed expired",
  completed: "",
  failed: "pending starting running ready completed",
  crashed: "pending starting running ready completed",
  expired: "",
  timed_out: "",
};

describe("the transition table", () => {
  it.each(phases)("leads from %s where the design says, and nowhere else", (from) => {
    const wanted = design[from].split(" ").filter((word) => word !== "");
    expect([...transitions[from]].sort()).toEqual(wanted.sort());
  });

  it("never leads from a phase to itself", () => {
    for (const phase of phases) expect(transitions[phase]).not.toContain(phase);
  });

  it("is read backwards by the guard of an update", () => {
    for (const to of phases) {
      expect(phasesThatMayEnter(to)).toEqual(phases.filter((from) => design[from].split(" ").includes(to)));
    }
  });
});

describe("phases", () => {
  it("are 15, each shown as one of the four statuses, each of which is some phase's", () => {
    expect(phases).toHaveLength(15);
    expect(new Set(Object.values(statusOf))).toEqual(new Set(statuses));
    expect(statuses).toEqual(["active", "paused", "completed", "crashed"]);
  });

  it.each(designRows)("$phase is shown as $status", ({ phase, status }) => {
    expect(statusOf[phase]).toBe(status);
  });

  it("that are live are active, those that are over are completed or crashed", () => {
    for (const phase of livePhases) expect(statusOf[phase]).toBe("active");
    for (const phase of endedPhases) expect(["completed", "crashed"]).toContain(statusOf[phase]);
    for (const phase of initialPhases) expect(statusOf[phase]).toBe("active");
  });
});
