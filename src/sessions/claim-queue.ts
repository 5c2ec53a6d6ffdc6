/**
 * Workers that wait for a session, in this process: first come, first served among those with the same filter.
 *
 *   arrives ──► its group ──► tried ──► none ──► waits ──► one may be there ──► tried …
 *                                         └──► or its time is up: none
 *
 * One may be there when the feed tells of a session that can be claimed at once, also of one that another process made;
 * and about once a second it is looked, for what only time makes claimable. However many wait, one statement looks for all
 * filters, and one serves all workers of a filter. A look sees only what has become claimable of late; for what it can't
 * see (a session that was locked, or whose labels were changed, after it had waited for long) each filter is tried now and
 * then all the same.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { changeTypes } from "../events/envelope.ts";
import type { Feed } from "../events/feed.ts";
import type { EventRow } from "../events/row.ts";
import { type Claim, type ClaimedSession, type ClaimFilter, mostClaims } from "./claim.ts";
import type { RequestContext } from "./context.ts";
import type { AskedClaim, Ownership } from "./ownership.ts";

export interface ClaimQueueOptions {
  readonly claims: Pick<Ownership, "claim" | "lookForClaimable">;
  readonly feed: Feed;
}

interface Worker {
  readonly asked: AskedClaim;
  readonly resolve: (claimed: ClaimedSession | undefined) => void;
  readonly reject: (error: unknown) => void;
  /** Its statement is under way, and may give it a session. */
  isServed: boolean;
  /** It is told when there is none, and waits no longer. */
  isInHurry: boolean;
}

/** Those that wait for the same. */
interface Group {
  readonly key: string;
  readonly namespace: string;
  readonly filter: ClaimFilter;
  readonly workers: Set<Worker>;
  /** Those that claim by themselves, and wait for when that is worth a try. */
  readonly watchers: Set<() => void>;
  isBusy: boolean;
  isAskedAgain: boolean;
  /** How often it was looked since it was tried, about. */
  looks: number;
}

/** Between two looks at what time makes claimable, at most. */
const lookEveryMs = 1_000;

/** After so many looks a filter is tried, whatever they have seen. */
const looksBeforeATry = 10;

/** So many filters are looked at in one statement, */
const filtersAtOnce = 200;

/** so many are served at a time, for others need the database too, */
const servedAtOnce = 3;

/** and so many of those that claim by themselves are told of a session. */
const watchersAtOnce = 4;

/** Filters that came at the same time are not to be tried at the same time again. */
const someLooks = () => Math.floor((Math.random() * looksBeforeATry) / 2);

export class ClaimQueue {
  readonly #options: ClaimQueueOptions;
  readonly #groups = new Map<string, Group>();
  /** Given when nobody waits any more; undefined while nobody does. */
  #resting: AbortController | undefined;
  /** Groups for which a session may be there. */
  readonly #hopeful = new Set<Group>();
  #isLooking = false;
  /** By namespace: where the last look ended. */
  readonly #since = new Map<string, string>();

  constructor(options: ClaimQueueOptions) {
    this.#options = options;
  }

  /**
   * Claims a session, and waits for one.
   *
   * @param until when this is given there is no more waiting; undefined: what is not there at once is not waited for
   * @returns undefined when there is none
   * @throws database_unavailable when it can't be known
   */
  claim(context: RequestContext, input: Claim, until?: AbortSignal): Promise<ClaimedSession | undefined> {
    if (until?.aborted === true) return Promise.resolve(undefined);
    const group = this.#groupOf(context.namespace, input.filter);
    return new Promise((resolve, reject) => {
      const asked = { context, input };
      const worker: Worker = { asked, resolve, reject, isServed: false, isInHurry: until === undefined };
      until?.addEventListener("abort", () => {
        worker.isInHurry = true;
        if (!worker.isServed) this.#dismiss(group, worker).resolve(undefined);
      });
      group.workers.add(worker);
      if (until !== undefined) this.#attend();
      void this.#serve(group);
    });
  }

  /** Waits until a claim by somebody else's hands is worth a try, or until the signal is given. */
  chance(namespace: string, filter: ClaimFilter, until: AbortSignal): Promise<void> {
    if (until.aborted) return Promise.resolve();
    const group = this.#groupOf(namespace, filter);
    return new Promise((resolve) => {
      const tell = () => {
        until.removeEventListener("abort", tell);
        group.watchers.delete(tell);
        this.#forgetIfEmpty(group);
        resolve();
      };
      until.addEventListener("abort", tell);
      group.watchers.add(tell);
      this.#attend();
    });
  }

  #groupOf(namespace: string, filter: ClaimFilter): Group {
    const { agentId, sessionType, runtimeBackend, labels } = filter;
    const key = JSON.stringify([namespace, agentId, sessionType, runtimeBackend, labels]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    const group: Group = {
      key,
      namespace,
      filter,
      workers: new Set(),
      watchers: new Set(),
      isBusy: false,
      isAskedAgain: false,
      looks: someLooks(),
    };
    this.#groups.set(key, group);
    return group;
  }

  #dismiss(group: Group, worker: Worker): Worker {
    group.workers.delete(worker);
    this.#forgetIfEmpty(group);
    return worker;
  }

  #forgetIfEmpty(group: Group): void {
    if (group.workers.size + group.watchers.size > 0 || group.isBusy) return;
    if (this.#groups.get(group.key) === group) this.#groups.delete(group.key);
  }

  /** Serves the longest waiting, and goes on while there are sessions for all whom it served. */
  async #serve(group: Group): Promise<void> {
    group.isAskedAgain = true;
    if (group.isBusy) return;
    group.isBusy = true;
    while (group.isAskedAgain && group.workers.size > 0) {
      group.isAskedAgain = false;
      group.looks = someLooks();
      const present = [...group.workers];
      const served = present.slice(0, mostClaims);
      for (const worker of served) worker.isServed = true;
      try {
        const claimed = await this.#options.claims.claim(served.map(({ asked }) => asked));
        const isExhausted = this.#giveOut(group, served, claimed);
        if (!isExhausted) group.isAskedAgain = true;
        // Nothing was left for those behind them either.
        else for (const worker of present) if (worker.isInHurry) this.#dismiss(group, worker).resolve(undefined);
      } catch (error) {
        for (const worker of present) {
          if (worker.isServed || worker.isInHurry) this.#dismiss(group, worker).reject(error);
        }
      }
    }
    group.isBusy = false;
    this.#forgetIfEmpty(group);
  }

  /** @returns whether there were too few sessions for them */
  #giveOut(group: Group, served: readonly Worker[], claimed: readonly (ClaimedSession | undefined)[]): boolean {
    let isExhausted = false;
    served.forEach((worker, at) => {
      worker.isServed = false;
      if (claimed[at] === undefined) isExhausted = true;
      else this.#dismiss(group, worker).resolve(claimed[at]);
    });
    return isExhausted;
  }

  /** From the first that waits until the last has gone, it is listened and looked. */
  #attend(): void {
    if (this.#resting !== undefined) return;
    const resting = new AbortController();
    this.#resting = resting;
    void this.#listen(resting.signal);
    void this.#lookNowAndThen(resting);
  }

  async #listen(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        let hasBegun = false;
        const begin = () => {
          // What came before it was listened is not told.
          if (!hasBegun) this.#expect(() => true);
          hasBegun = true;
        };
        for await (const { events } of this.#options.feed.follow({ signal, atEnd: begin })) this.#hear(events);
      } catch {
        // The database is away: what it has to tell is found when it is looked.
        await sleep(lookEveryMs, undefined, { ref: false });
      }
    }
  }

  #hear(events: readonly EventRow[]): void {
    for (const { event_type: type, payload } of events) {
      if (!changeTypes.includes(type) || !/"pending"|"auto_resume"/.test(payload)) continue;
      const told = JSON.parse(payload) as { agent_id?: string; phase?: string; updates?: readonly string[] };
      if (told.phase !== "pending" && told.updates?.includes("auto_resume") !== true) continue;
      this.#expect(({ agentId }) => agentId === undefined || agentId === told.agent_id);
    }
  }

  async #lookNowAndThen(resting: AbortController): Promise<void> {
    while (this.#groups.size > 0) {
      await sleep(lookEveryMs * (0.7 + 0.3 * Math.random()), undefined, { ref: false });
      for (const group of this.#groups.values()) group.looks++;
      this.#expect(() => true);
    }
    this.#resting = undefined;
    this.#since.clear();
    resting.abort();
  }

  #expect(concerns: (filter: ClaimFilter) => boolean): void {
    for (const group of this.#groups.values()) if (concerns(group.filter)) this.#hopeful.add(group);
    if (!this.#isLooking) void this.#look();
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    while (this.#hopeful.size > 0) {
      const groups = [...this.#hopeful];
      this.#hopeful.clear();
      // A database that is away is asked again soon; those whose time is up meanwhile are told that there was none.
      const found = groups.length === 1 ? groups : await this.#findable(groups).catch(() => []);
      const next = found.values();
      const serveAll = async () => {
        for (const group of next) {
          for (const tell of [...group.watchers].slice(0, watchersAtOnce)) tell();
          await this.#serve(group);
        }
      };
      await Promise.all(Array.from({ length: servedAtOnce }, serveAll));
    }
    this.#isLooking = false;
  }

  /** Those of the groups for which there may be a session. */
  async #findable(groups: readonly Group[]): Promise<Group[]> {
    const found = groups.filter(({ looks }) => looks >= looksBeforeATry);
    for (const namespace of new Set(groups.map((group) => group.namespace))) {
      const its = groups.filter((group) => group.namespace === namespace && !found.includes(group));
      const since = this.#since.get(namespace);
      for (let at = 0; at < its.length; at += filtersAtOnce) {
        const some = its.slice(at, at + filtersAtOnce);
        const filters = some.map(({ filter }) => filter);
        const look = await this.#options.claims.lookForClaimable(namespace, filters, since);
        found.push(...look.found.flatMap((index) => some[index] ?? []));
        this.#since.set(namespace, look.nextSince);
      }
    }
    return found;
  }
}
