import { describe, expect, it } from "vitest";
import { openTransitions } from "../../src/sessions/diagnosis.ts";
import { type DiagnosisFacts, durationText, summaryOf } from "../../src/sessions/diagnosis-summary.ts";
import { phases, transitions } from "../../src/sessions/lifecycle.ts";

const facts: DiagnosisFacts = {
  phase: "running",
  phaseSeconds: 10_800,
  statusReason: null,
  exitRequested: false,
  attempt: 1,
  maxAttempts: 3,
  autoRecover: false,
  lease: undefined,
  timers: [],
  secondsUntilClaimable: null,
  sweepSeconds: 0.4,
  isSweepOverdue: false,
};
const summary = (given: Partial<DiagnosisFacts>) => summaryOf({ ...facts, ...given });
const lease = { owner: "worker-7", isLive: true, secondsLeft: 12.4 };

describe("the summary of a session that somebody holds", () => {
  it("says who, until when, and what comes then", () => {
    expect(summary({ lease, autoRecover: true })).toBe(
      "Running for 3 h; held by worker-7, whose lease runs out in 12 s unless it is renewed; then the session crashes " +
        "and, with 2 of 3 attempts left, may be claimed again 5 s later.",
    );
    expect(summary({ lease, autoRecover: true, attempt: 2 })).toContain("with 1 of 3 attempts left");
    expect(summary({ lease, autoRecover: true, attempt: 2 })).toContain("10 s later");
  });

  it("says when the crash is for good", () => {
    expect(summary({ lease, autoRecover: true, attempt: 3 })).toContain("crashes for good, for this is attempt 3 of 3");
    expect(summary({ lease })).toContain("crashes, and stays so until somebody recovers it");
  });

  it("says when the lease has run out", () => {
    expect(summary({ lease: { ...lease, isLive: false, secondsLeft: -3 } })).toContain(
      "held by worker-7, whose lease ran out 3 s ago; at the next sweep the session crashes",
    );
  });

  it("says which other timer fires next", () => {
    const timers = [
      { name: "lease", outcome: "crashed" as const, secondsLeft: 12 },
      { name: "timeout_seconds", outcome: "timed_out" as const, secondsLeft: 5_400 },
    ];
    expect(summary({ lease, timers })).toMatch(/recovers it\. It times out in 1 h 30 min \(timeout_seconds\)\.$/);
  });

  it("says that its worker has been asked to exit", () => {
    expect(summary({ lease, phase: "busy", exitRequested: true })).toMatch(
      /^Busy for 3 h; held by .* It has been asked to exit\.$/,
    );
  });
});

describe("the summary of a session that nobody holds", () => {
  it("says that nothing will ever end it, and what to do, where no timer runs", () => {
    expect(summary({})).toBe(
      "Running for 3 h; nobody holds it and no timer runs, so nothing will ever end it by itself: set " +
        "idle_timeout_seconds, set timeout_seconds, or take its lease (POST /lease).",
    );
    expect(summary({ phase: "waiting_input" })).toBe(
      "Waiting for a person's input for 3 h; nobody holds it and no timer runs, so nothing will ever end it by itself: " +
        "set timeout_seconds, or take its lease (POST /lease).",
    );
  });

  it.each([
    ["timeout_seconds", "timed_out", 60, "It times out in 1 min (timeout_seconds)."],
    ["idle_timeout_seconds", "expired", 60, "Unless something happens it expires in 1 min (idle_timeout_seconds)."],
    ["waiting_timeout_seconds", "idle", 60, "it is set aside as idle in 1 min (waiting_timeout_seconds)."],
    ["expires_at", "deleted", 60, "It is deleted in 1 min (expires_at)."],
    ["expires_at", "deleted", -1, "It is deleted at the next sweep (expires_at)."],
  ] as const)("says what comes of %s: %s in %s s", (name, outcome, secondsLeft, sentence) => {
    const text = summary({ timers: [{ name, outcome, secondsLeft }] });
    expect(text.startsWith("Running for 3 h; nobody holds it. ")).toBe(true);
    expect(text.endsWith(sentence), text).toBe(true);
  });
});

describe("the summary of a session that waits", () => {
  it.each<[Partial<DiagnosisFacts>, string]>([
    [
      { phase: "pending", secondsUntilClaimable: -90 },
      "Pending for 3 h, and nobody has claimed it in the 1 min 30 s that it could be; it waits for ever: claim it, start " +
        "it, or set pending_timeout_seconds.",
    ],
    [
      {
        phase: "pending",
        secondsUntilClaimable: -90,
        timers: [{ name: "pending_timeout_seconds", outcome: "expired", secondsLeft: 30 }],
      },
      "Pending for 3 h, and nobody has claimed it in the 1 min 30 s that it could be. Unless it is claimed or started it " +
        "expires in 30 s (pending_timeout_seconds).",
    ],
    [
      { phase: "pending", phaseSeconds: 0.4, secondsUntilClaimable: -0.4 },
      "Pending for less than 1 s; it waits for ever: claim it, start it, or set pending_timeout_seconds.",
    ],
    [
      { phase: "pending", secondsUntilClaimable: 7_200 },
      "Pending for 3 h; it is scheduled, and may be claimed in 2 h.",
    ],
    [{ phase: "paused" }, "Paused for 3 h; it stays so until somebody resumes it."],
    [
      { phase: "paused", secondsUntilClaimable: -3, statusReason: "worker_shutdown" },
      "Paused for 3 h (worker_shutdown); it waits to be claimed, and goes on where it was.",
    ],
    [
      { phase: "stopped", secondsUntilClaimable: -3, statusReason: "worker_shutdown" },
      "Stopped for 3 h (worker_shutdown); it waits to be claimed, and goes on where it was.",
    ],
    [
      { phase: "paused", secondsUntilClaimable: 7_200 },
      "Paused for 3 h; it is scheduled, may be claimed in 2 h, and then goes on where it was.",
    ],
    [
      { phase: "idle", statusReason: "waiting_timeout" },
      "Set aside as idle for 3 h (waiting_timeout); it wakes when an event is posted, or when somebody resumes it.",
    ],
    [{ phase: "stopped" }, "Stopped for 3 h; it stays so until somebody starts it."],
  ])("%j", (given, sentence) => {
    expect(summary(given)).toBe(sentence);
  });
});

describe("the summary of a session that is over", () => {
  it.each<[Partial<DiagnosisFacts>, string]>([
    [{ phase: "completed" }, "Completed 3 h ago; nothing follows: POST /restart begins another attempt."],
    [
      { phase: "failed", statusReason: "out of memory" },
      "Failed 3 h ago (out of memory); nothing follows by itself: POST /recover begins another attempt.",
    ],
    [
      { phase: "expired", statusReason: "idle_timeout" },
      'Expired 3 h ago (idle_timeout); nothing follows by itself: POST /recover with {"force": true} begins another attempt.',
    ],
    [
      { phase: "timed_out" },
      'Timed out 3 h ago; nothing follows by itself: POST /recover with {"force": true} begins another attempt.',
    ],
    [
      { phase: "crashed", autoRecover: true, secondsUntilClaimable: 4, statusReason: "lease_expired" },
      "Crashed 3 h ago (lease_expired); it recovers by itself: it may be claimed again in 4 s, for attempt 2 of 3.",
    ],
    [
      { phase: "crashed", autoRecover: true, secondsUntilClaimable: -4 },
      "Crashed 3 h ago; it recovers by itself: it waits to be claimed, for attempt 2 of 3.",
    ],
    [
      { phase: "crashed", autoRecover: true, attempt: 3, statusReason: "attempts_exhausted" },
      "Crashed 3 h ago (attempts_exhausted); its attempts are exhausted (3 of 3): POST /recover begins another attempt.",
    ],
    [
      { phase: "crashed" },
      "Crashed 3 h ago; it does not recover by itself, for auto_recover is off: POST /recover begins another attempt.",
    ],
    [
      { phase: "crashed", autoRecover: true },
      "Crashed 3 h ago; it does not recover by itself, for auto_recover was off when it crashed: POST /recover begins " +
        "another attempt.",
    ],
  ])("%j", (given, sentence) => {
    expect(summary(given)).toBe(sentence);
  });
});

describe("every summary", () => {
  it("is of whole sentences, in each phase, whatever else is known", () => {
    const timers = [{ name: "expires_at", outcome: "deleted" as const, secondsLeft: 5 }];
    for (const phase of phases) {
      for (const given of [{}, { timers }, { lease }, { secondsUntilClaimable: 5 }, { statusReason: "because" }]) {
        const text = summary({ phase, ...given });
        expect(text, phase).toMatch(/^[A-Z][^.]*\.( [A-Z][^.]*\.)*$/);
        expect(text, phase).not.toMatch(/undefined|null|NaN|\s{2}/);
      }
    }
  });

  it("says that sweeps have stopped, where a timer waits for one", () => {
    const timers = [{ name: "expires_at", outcome: "deleted" as const, secondsLeft: -400 }];
    const overdue = { timers, isSweepOverdue: true };
    expect(summary({ ...overdue, sweepSeconds: 300 })).toMatch(/No sweep has run for 5 min, so no timer fires: .*\.$/);
    expect(summary({ ...overdue, sweepSeconds: null })).toContain("No sweep has ever run, so no timer fires");
    expect(summary({ isSweepOverdue: true, sweepSeconds: null })).not.toContain("sweep");
  });

  it("cuts a reason that is an essay", () => {
    const text = summary({ phase: "failed", statusReason: "x".repeat(5_000) });
    expect(text).toContain(`(${"x".repeat(100)}…)`);
    expect(text.length).toBeLessThan(300);
  });
});

describe("a duration", () => {
  it.each([
    [0, "0 s"],
    [0.2, "less than 1 s"],
    [12.4, "12 s"],
    [59.6, "1 min"],
    [90, "1 min 30 s"],
    [3_600, "1 h"],
    [3_601, "1 h"],
    [12_000, "3 h 20 min"],
    [2 * 86_400 + 3_600 * 5 + 7, "2 d 5 h"],
    [86_400 + 60, "1 d"],
    [-3, "0 s"],
  ])("of %s s is %s", (seconds, text) => {
    expect(durationText(seconds)).toBe(text);
  });
});

describe("the open transitions", () => {
  const verbsOf = (...from: Parameters<typeof openTransitions>) =>
    Object.fromEntries(openTransitions(...from).map(({ to, verbs }) => [to, verbs.join()]));

  it.each(phases)("of %s are those of the table, and where verbs lead", (from) => {
    const open = openTransitions(from, false);
    expect(open.map(({ to }) => to)).toEqual(expect.arrayContaining([...transitions[from]]));
    for (const { to, verbs } of open) if (!transitions[from].includes(to)) expect(verbs).not.toEqual([]);
  });

  it("name the verbs that lead there", () => {
    expect(verbsOf("pending", false)).toEqual({
      starting: "start",
      running: "start,resume",
      ready: "",
      stopped: "stop",
      failed: "fail",
      expired: "",
    });
    expect(verbsOf("paused", false)).toMatchObject({ running: "start,resume", completed: "complete" });
    expect(verbsOf("completed", false)).toEqual({ pending: "restart" });
    expect(verbsOf("timed_out", false)).toEqual({ pending: "recover" });
  });

  it("lead a session that is held to stopping, and its holder to stopped", () => {
    expect(verbsOf("running", true)).toMatchObject({ stopping: "stop", stopped: "stop" });
    expect(verbsOf("running", false)).toMatchObject({ stopping: "", stopped: "stop" });
  });
});
