/** The lifecycle as the design writes it, once more and shorter: what the service is compared with, command by command. */

import type { Phase } from "../../src/sessions/lifecycle.ts";
import { type DesignField, designRows, designWords } from "./phases.ts";

const table = `
  pending: starting running ready stopped failed expired
  starting: running ready busy stopping stopped failed crashed expired timed_out
  running: ready busy waiting_input stopping paused idle stopped completed failed crashed expired timed_out
  ready: running busy waiting_input stopping paused idle stopped completed failed crashed expired timed_out
  busy: running ready waiting_input stopping paused stopped completed failed crashed expired timed_out
  waiting_input: running ready busy stopping paused stopped completed failed crashed expired timed_out
  stopping: stopped completed failed crashed timed_out
  paused, idle, stopped: pending starting running ready busy completed failed crashed expired
  failed, crashed: pending starting running ready completed
  expired, timed_out, completed:`;

/** Where each phase may go. */
export const designTransitions: ReadonlyMap<Phase, readonly Phase[]> = new Map(
  table
    .trim()
    .split("\n")
    .flatMap((line) => {
      const [from = "", to = ""] = line.split(":");
      const ways = to.split(" ").filter((word) => word !== "") as Phase[];
      return from.split(",").map((phase) => [phase.trim() as Phase, ways] as const);
    }),
);

const statusOf = new Map(designRows.map(({ phase, status }) => [phase, status]));
const shownAs = (...statuses: string[]) =>
  designRows.filter(({ status }) => statuses.includes(status)).map(({ phase }) => phase);
const among = (list: readonly Phase[], phase: Phase) => list.includes(phase);

const goingOn: readonly Phase[] = shownAs("active");
const live: readonly Phase[] = goingOn.filter((phase) => phase !== "pending");
const crashes = shownAs("crashed");
const ended = shownAs("completed", "crashed");
const working: readonly Phase[] = ["running", "ready", "busy", "waiting_input"];

/** What a verb asks for: to be in one of some phases, else to enter one; from where, if not as the table says. */
export interface Asked {
  readonly means: readonly Phase[];
  readonly entry: Phase;
  readonly from?: readonly Phase[];
}

/** The verbs of the API. `stop` asks a holder to stop, `request-exit` leaves the phase as it is. */
export const designVerbs = {
  start: { means: working, entry: "running" },
  resume: { means: working, entry: "running" },
  pause: { means: shownAs("paused"), entry: "paused" },
  stop: { means: ["stopped"], entry: "stopped" },
  complete: { means: ["completed"], entry: "completed" },
  fail: { means: ["failed"], entry: "failed" },
  crash: { means: crashes, entry: "crashed" },
  recover: { means: ["pending"], entry: "pending", from: ["failed", "crashed"] },
  restart: { means: ["pending"], entry: "pending", from: [...shownAs("paused"), "failed", "crashed", "completed"] },
  "request-exit": { means: shownAs("active", "paused"), entry: "stopping", from: [] },
} as const satisfies Readonly<Record<string, Asked>>;

export type DesignVerb = keyof typeof designVerbs;

/** Names the token of the lease, if there is one; or one that is of no lease any more; or none. */
export type Naming = "current" | "old" | undefined;

/** To a session: which, counted round those that there are, and what is said of its lease. */
interface ToOne<Does extends string> {
  readonly does: Does;
  readonly at: number;
  readonly token: Naming;
}

interface Patch extends ToOne<"patch"> {
  readonly field: DesignField;
  readonly word: string;
  /** Whether it names a version that the session does not have. */
  readonly stale: boolean;
}

interface Verb extends ToOne<"verb"> {
  readonly verb: DesignVerb;
  readonly reason: string | undefined;
  /** To recover. */
  readonly force: boolean;
  /** To pause. */
  readonly autoResume: boolean;
}

interface Lease extends ToOne<"lease"> {
  readonly action: "take" | "renew" | "release" | "hand_over";
  readonly worker: string;
}

interface Creation {
  readonly does: "create";
  readonly phase: Phase;
  readonly autoRecover: boolean;
  readonly maxAttempts: number;
}

type Words = "count" | "heartbeat" | "report" | "delete";
type One = Patch | Verb | Lease | { [Does in Words]: ToOne<Does> }[Words];
type OfWorker = { [Does in "claim" | "pause-all"]: { readonly does: Does; readonly worker: string } };
type Ending = "the back-off is over" | "the lease is over";
type Time = { [Does in Ending]: { readonly does: Does; readonly at: number } }[Ending];

/** What a client sends, and time passing. */
export type Command = Creation | One | OfWorker[keyof OfWorker] | Time;

export interface ModelEvent {
  readonly type: string;
  readonly version: number;
  readonly from?: Phase | null;
  readonly to?: Phase | null;
}

/** A session as it should be. */
export interface ModelSession {
  phase: Phase;
  version: number;
  attempt: number;
  owner: string | null;
  /** Of the latest lease; 0 when there was none. */
  token: number;
  reason: string | null;
  exit: boolean;
  autoResume: boolean;
  deleted: boolean;
  /** Its place among those that may be claimed; Infinity while it is held back after a crash. */
  place: number | undefined;
  readonly autoRecover: boolean;
  readonly maxAttempts: number;
  readonly events: ModelEvent[];
}

export interface Expected {
  readonly status: number;
  /** Of the problem. */
  readonly code?: string;
  /** The session that the answer shows. */
  readonly session?: ModelSession;
  /** How many sessions the answer counts. */
  readonly count?: number;
}

const ok = (session: ModelSession): Expected => ({ status: 200, session });
/** Nobody asked, and so nobody is answered. */
const timePassed: Expected = { status: 0 };
const conflict = (code: string): Expected => ({ status: 409, code });

/** The status that a phase is shown as. */
export const shownStatus = (phase: Phase): string | undefined => statusOf.get(phase);

/** The token that a command names of a session as it is; undefined for none. */
export function tokenOf(naming: Naming, { owner, token }: ModelSession): number | undefined {
  if (naming === "old") return token + 1;
  return naming === "current" && owner !== null ? token : undefined;
}

export class LifecycleModel {
  readonly sessions: ModelSession[] = [];
  #places = 0;

  /** The session that a command speaks of: what only a lease makes sense of, one that is held, if there is one. */
  of(command: Command): ModelSession | undefined {
    if (!("at" in command)) return undefined;
    const isOfLease = command.does === "lease" ? command.action !== "take" : command.does === "the lease is over";
    const held = isOfLease ? this.sessions.filter(({ owner }) => owner !== null) : [];
    const all = held.length > 0 ? held : this.sessions;
    return all[command.at % all.length];
  }

  /** Does what the service should do, and tells what it should answer; undefined when there is nothing to speak of. */
  apply(command: Command): Expected | undefined {
    if (command.does === "create") return this.#create(command);
    if (command.does === "claim") return this.#claim(command.worker);
    if (command.does === "pause-all") return this.#pauseAll(command.worker);
    const session = this.of(command);
    if (session === undefined) return undefined;
    if (command.does === "the back-off is over") {
      if (session.place !== Number.POSITIVE_INFINITY) return undefined;
      session.place = this.#places++;
      return timePassed;
    }
    if (command.does === "the lease is over") {
      if (session.owner === null) return undefined;
      this.#move(session, "crashed", { reason: "lease_expired" });
      return timePassed;
    }
    const named = "token" in command ? tokenOf(command.token, session) : undefined;
    const needsToken = command.does === "lease" && command.action !== "take";
    if (needsToken && named === undefined) return { status: 422, code: "validation_failed" };
    if (command.does === "delete" && session.deleted) return { status: 204 };
    if (session.deleted) return { status: 404, code: "session_not_found" };
    const isLost = named !== undefined && (session.owner === null || named !== session.token);
    if (isLost) return conflict("lease_lost");
    return this.#ofOne(session, command);
  }

  #ofOne(session: ModelSession, command: One): Expected {
    switch (command.does) {
      case "patch": {
        if (command.stale) return { status: 412, code: "precondition_failed" };
        const word = designWords(command.field).find((one) => one.word === command.word);
        if (word === undefined) throw new Error(`${command.word} is not a word of ${command.field}`);
        return this.#become(session, word, {});
      }
      case "verb":
        return this.#verb(session, command);
      case "count":
        change(session);
        return ok(session);
      case "heartbeat":
        return among(ended, session.phase) ? conflict("session_not_live") : ok(session);
      case "report":
        session.events.push({ type: "session.thinking", version: session.version });
        if (session.phase === "idle") this.#move(session, "ready", { reason: "input" });
        return { status: 201 };
      case "lease":
        return lease(session, command);
      default:
        session.deleted = true;
        session.owner = null;
        change(session, "session.deleted");
        return { status: 204 };
    }
  }

  #create({ phase, autoRecover, maxAttempts }: Creation): Expected {
    const session: ModelSession = {
      phase,
      version: 1,
      attempt: 1,
      owner: null,
      token: 0,
      reason: null,
      exit: false,
      autoResume: false,
      deleted: false,
      place: phase === "pending" ? this.#places++ : undefined,
      autoRecover,
      maxAttempts,
      events: [{ type: "session.created", version: 1 }],
    };
    this.sessions.push(session);
    return { status: 201, session };
  }

  #verb(session: ModelSession, command: Verb): Expected {
    const { verb, reason, autoResume } = command;
    const asked: Asked = designVerbs[verb];
    if (verb === "request-exit") {
      if (!among(asked.means, session.phase)) return conflict("invalid_transition");
      if (!session.exit) change(session);
      session.exit = true;
      return ok(session);
    }
    const told = { reason: reason ?? null, ...(verb === "pause" ? { autoResume } : {}) };
    if (verb === "stop" && session.owner !== null && command.token === undefined) {
      return this.#become(session, { means: ["stopping", "stopped"], entry: "stopping" }, told);
    }
    if (verb === "recover" && command.force) return this.#become(session, { ...asked, from: crashes }, told);
    return this.#become(session, asked, { ...told, again: verb === "restart" });
  }

  #become(session: ModelSession, asked: Asked, told: Told): Expected {
    if (among(asked.means, session.phase)) {
      this.#turnResume(session, told);
      return ok(session);
    }
    const mayGo = asked.from ? among(asked.from, session.phase) : this.#leads(session.phase, asked.entry);
    if (!mayGo) return conflict("invalid_transition");
    this.#move(session, asked.entry, told);
    return ok(session);
  }

  /** One that is paused again may be claimed from now on, or not any more. */
  #turnResume(session: ModelSession, { autoResume }: Told): void {
    if (!among(["paused", "stopped"], session.phase) || (autoResume ?? session.autoResume) === session.autoResume)
      return;
    session.autoResume = autoResume === true;
    session.place = session.autoResume ? this.#places++ : undefined;
    change(session);
  }

  #leads(from: Phase, to: Phase): boolean {
    return among(designTransitions.get(from) ?? [], to);
  }

  #move(session: ModelSession, to: Phase, { reason = null, autoResume = false, again = false, owner }: Told): void {
    const from = session.phase;
    if (again || (among(crashes, from) && !among(ended, to))) session.attempt += 1;
    if (among(goingOn, to) && !among(goingOn, from) && !session.autoResume) session.exit = false;
    session.phase = to;
    if (!among(live, to)) session.owner = null;
    if (owner !== undefined) {
      session.owner = owner;
      session.token += 1;
    }
    session.autoResume = autoResume;
    const isCrash = to === "crashed" && session.autoRecover;
    const mayTryAgain = isCrash && session.attempt < session.maxAttempts;
    const kept = from === "stopping" && to === "stopped" ? session.reason : null;
    session.reason = isCrash && !mayTryAgain ? "attempts_exhausted" : (reason ?? kept);
    const waits = to === "pending" || autoResume;
    session.place = mayTryAgain ? Number.POSITIVE_INFINITY : waits ? this.#places++ : undefined;
    change(session, "session.updated", { from, to });
  }

  /** The one that has waited longest. */
  #claim(owner: string): Expected {
    const [first] = this.sessions
      .filter(({ place = Number.POSITIVE_INFINITY, deleted }) => !deleted && place < Number.POSITIVE_INFINITY)
      .sort((a, b) => (a.place ?? 0) - (b.place ?? 0));
    if (first === undefined) return { status: 204 };
    this.#move(first, "running", { owner });
    return ok(first);
  }

  #pauseAll(worker: string): Expected {
    const its = this.sessions.filter(({ owner }) => owner === worker);
    for (const session of its) {
      const to = this.#leads(session.phase, "paused") ? "paused" : "stopped";
      // What was asked to stop has stopped, and is nobody's to go on with.
      this.#move(session, to, { reason: "worker_shutdown", autoResume: session.phase !== "stopping" });
    }
    return { status: 200, count: its.length };
  }
}

/** What a transition is told beside where it goes. */
interface Told {
  readonly reason?: string | null;
  readonly autoResume?: boolean;
  /** Whether it begins another attempt, whatever the session was. */
  readonly again?: boolean;
  /** Who gets a lease by it. */
  readonly owner?: string;
}

/** One version and one event. */
function change(session: ModelSession, type = "session.updated", move: { from?: Phase; to?: Phase } = {}): void {
  session.version += 1;
  session.events.push({ type, version: session.version, ...move });
}

function lease(session: ModelSession, { action, worker, token }: Lease): Expected {
  const before = session.owner;
  if (action === "take") {
    if (!among(live, session.phase)) return conflict("session_not_live");
    if (before !== null && before !== worker) return conflict("lease_held");
    // A worker that was started again knows no token: the one from before is fenced off.
    if (tokenOf(token, session) === undefined) session.token += 1;
  }
  if (action === "hand_over") session.token += 1;
  if (action !== "renew") session.owner = action === "release" ? null : worker;
  if (session.owner !== before) change(session);
  return ok(session);
}
