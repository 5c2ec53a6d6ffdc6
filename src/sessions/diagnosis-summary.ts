/**
 * What a diagnosis says in words: where a session is, who has it, and what will become of it when nobody does anything.
 * Pure.
 */

import type { Phase } from "./lifecycle.ts";
import type { TimerOutcome } from "./timers.ts";
import { backOffSeconds } from "./transition.ts";

/** What the words are made from. Durations are in seconds; those of what is overdue are negative. */
export interface DiagnosisFacts {
  readonly phase: Phase;
  readonly phaseSeconds: number;
  readonly statusReason: string | null;
  readonly exitRequested: boolean;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly autoRecover: boolean;
  readonly lease: { readonly owner: string; readonly isLive: boolean; readonly secondsLeft: number } | undefined;
  /** Those that run, the next one first. */
  readonly timers: readonly TimerFacts[];
  /** Until it may be claimed, not positive when it may be now; null when it is not to be claimed at all. */
  readonly secondsUntilClaimable: number | null;
  /** Since due sessions were last looked for, by any process; null when they never were. */
  readonly sweepSeconds: number | null;
  /** Whether that is longer ago than it ever is while sweeps run. */
  readonly isSweepOverdue: boolean;
}

export interface TimerFacts {
  readonly name: string;
  readonly outcome: TimerOutcome;
  readonly secondsLeft: number;
}

/** Phases with an owner at work, and how a sentence about them begins. */
const atWork: Partial<Record<Phase, string>> = {
  starting: "Starting for",
  running: "Running for",
  ready: "Ready for input for",
  busy: "Busy for",
  waiting_input: "Waiting for a person's input for",
  stopping: "Stopping for",
};

const lengths = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
] as const;

/** A duration for people, with its two largest units: 12 s, 1 min 30 s, 3 h, 2 d 5 h. */
export function durationText(seconds: number): string {
  let left = Math.round(Math.max(0, seconds));
  if (left === 0) return seconds > 0 ? "less than 1 s" : "0 s";
  const words: string[] = [];
  for (const [unit, length] of lengths) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) words.push(`${count} ${unit}`);
    // Beside days nobody asks for minutes.
    if (words.length === 2 || (words.length === 1 && count === 0)) break;
  }
  return words.join(" ");
}

function when(secondsLeft: number): string {
  return secondsLeft > 0 ? `in ${durationText(secondsLeft)}` : "at the next sweep";
}

/** Reasons are clients' words, and of any length. */
function because(reason: string | null): string {
  if (reason === null) return "";
  return ` (${reason.length > 100 ? `${reason.slice(0, 100)}…` : reason})`;
}

/** One to four sentences: where the session is and what follows, then what is out of order. */
export function summaryOf(facts: DiagnosisFacts): string {
  const { phase } = facts;
  const begin = atWork[phase];
  const sentences =
    begin === undefined ? ofWaiting(facts) : ofWork(`${begin} ${durationText(facts.phaseSeconds)}`, facts);
  return [...sentences, ...ofSweeps(facts)].join(" ");
}

function ofWork(begin: string, facts: DiagnosisFacts): string[] {
  const { lease, timers, exitRequested } = facts;
  const [next] = timers.filter(({ name }) => name !== "lease");
  const asked = exitRequested ? ["It has been asked to exit."] : [];
  if (lease !== undefined) {
    return [`${begin}; held by ${lease.owner}, ${leaseText(lease, facts)}.`, ...asked, ...ofTimer(next)];
  }
  if (next !== undefined) return [`${begin}; nobody holds it.`, ...asked, ...ofTimer(next)];
  return [
    `${begin}; nobody holds it and no timer runs, so nothing will ever end it by itself: ${advice[facts.phase] ?? ""}` +
      "set timeout_seconds, or take its lease (POST /lease).",
    ...asked,
  ];
}

/** The idle timer does not run in the other phases, nor for who is busy and has a lease. */
const idleAdvice = "set idle_timeout_seconds, ";
const advice: Partial<Record<Phase, string>> = { running: idleAdvice, ready: idleAdvice, busy: idleAdvice };

function leaseText({ isLive, secondsLeft }: NonNullable<DiagnosisFacts["lease"]>, facts: DiagnosisFacts): string {
  const { attempt, maxAttempts, autoRecover } = facts;
  const left = maxAttempts - attempt;
  const after = !autoRecover
    ? "crashes, and stays so until somebody recovers it"
    : left <= 0
      ? `crashes for good, for this is attempt ${attempt} of ${maxAttempts}`
      : `crashes and, with ${left} of ${maxAttempts} attempts left, may be claimed again ` +
        `${durationText(backOffSeconds(attempt))} later`;
  return isLive
    ? `whose lease runs out in ${durationText(secondsLeft)} unless it is renewed; then the session ${after}`
    : `whose lease ran out ${durationText(-secondsLeft)} ago; at the next sweep the session ${after}`;
}

/** What the timers that are not a lease announce. */
function ofTimer(timer: TimerFacts | undefined): string[] {
  if (timer === undefined) return [];
  const { name, outcome, secondsLeft } = timer;
  switch (outcome) {
    case "timed_out":
      return [`It times out ${when(secondsLeft)} (${name}).`];
    case "deleted":
      return [`It is deleted ${when(secondsLeft)} (${name}).`];
    case "idle":
      return [`Unless something happens it is set aside as idle ${when(secondsLeft)} (${name}).`];
    default: {
      const unless =
        name === "pending_timeout_seconds" ? "Unless it is claimed or started" : "Unless something happens";
      return [`${unless} it expires ${when(secondsLeft)} (${name}).`];
    }
  }
}

/** Phases in which nobody works. */
function ofWaiting(facts: DiagnosisFacts): string[] {
  const { phase, statusReason, timers, secondsUntilClaimable } = facts;
  const [next] = timers;
  const long = durationText(facts.phaseSeconds);
  const reason = because(statusReason);
  switch (phase) {
    case "pending":
      return [ofPending(long, facts), ...ofTimer(next)];
    case "paused":
    case "idle":
    case "stopped":
      return [
        `${setAside[phase]} for ${long}${reason}; ${afterClaim(secondsUntilClaimable) ?? resumption[phase]}.`,
        ...ofTimer(next),
      ];
    case "crashed":
      return [`Crashed ${long} ago${reason}; ${afterCrash(facts)}.`, ...ofTimer(next)];
    default:
      return [`${over[phase] ?? phase} ${long} ago${reason}; ${afterwards[phase] ?? ""}.`, ...ofTimer(next)];
  }
}

function ofPending(long: string, { timers, secondsUntilClaimable: until }: DiagnosisFacts): string {
  if (until !== null && until > 0)
    return `Pending for ${long}; it is scheduled, and may be claimed in ${durationText(until)}.`;
  const waits =
    until === null || until > -1 ? "" : `, and nobody has claimed it in the ${durationText(-until)} that it could be`;
  const forEver = timers.length > 0 ? "" : "; it waits for ever: claim it, start it, or set pending_timeout_seconds";
  return `Pending for ${long}${waits}${forEver}.`;
}

const setAside = { paused: "Paused", idle: "Set aside as idle", stopped: "Stopped" } as const;
const resumption = {
  paused: "it stays so until somebody resumes it",
  idle: "it wakes when an event is posted, or when somebody resumes it",
  stopped: "it stays so until somebody starts it",
} as const;

/** What was set aside by the shutdown of its worker, or to be resumed by another one, waits for a claim. */
function afterClaim(until: number | null): string | undefined {
  if (until === null) return undefined;
  return until > 0
    ? `it is scheduled, may be claimed in ${durationText(until)}, and then goes on where it was`
    : "it waits to be claimed, and goes on where it was";
}

const over: Partial<Record<Phase, string>> = {
  completed: "Completed",
  failed: "Failed",
  expired: "Expired",
  timed_out: "Timed out",
};
const forced = 'nothing follows by itself: POST /recover with {"force": true} begins another attempt';
const afterwards: Partial<Record<Phase, string>> = {
  completed: "nothing follows: POST /restart begins another attempt",
  failed: "nothing follows by itself: POST /recover begins another attempt",
  expired: forced,
  timed_out: forced,
};

function afterCrash({ attempt, maxAttempts, autoRecover, secondsUntilClaimable: until }: DiagnosisFacts): string {
  if (until !== null) {
    const soon = until > 0 ? `may be claimed again in ${durationText(until)}` : "waits to be claimed";
    return `it recovers by itself: it ${soon}, for attempt ${attempt + 1} of ${maxAttempts}`;
  }
  const again = "POST /recover begins another attempt";
  if (!autoRecover) return `it does not recover by itself, for auto_recover is off: ${again}`;
  if (attempt >= maxAttempts) return `its attempts are exhausted (${attempt} of ${maxAttempts}): ${again}`;
  return `it does not recover by itself, for auto_recover was off when it crashed: ${again}`;
}

function ofSweeps({ timers, sweepSeconds, isSweepOverdue }: DiagnosisFacts): string[] {
  if (timers.length === 0 || !isSweepOverdue) return [];
  const since = sweepSeconds === null ? "ever run" : `run for ${durationText(sweepSeconds)}`;
  return [`No sweep has ${since}, so no timer fires: look into the logs of the service's processes.`];
}
