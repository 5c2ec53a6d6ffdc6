/**
 * Which index a page is found by. What leaves few sessions cannot be told without looking: a label that half of them
 * carry beside an agent that has twenty, or the other way round. So each that serves the filter has its turn, with a
 * small look first.
 */

import { isOfEnded, ordered, type SessionFilter, type Sort, selective, statusesOf } from "./find-query.ts";
import type { Driver, SetName, WalkName } from "./find-sources.ts";

/** So many sessions are sorted for a page. */
export const mostSorted = 10_000;

/** So many sessions the statements of a page look at, one after the other: most pages are done with the first. */
const looks = [1_000, 4_000, 16_000];
const mostOfAStatement = 16_000;

/** And all of them together. */
const mostOfAPage = 64_000;

/** Documents weigh what they weigh: fewer are looked into. */
const looksIntoContexts = [100, 400, 1_600];
const mostContexts = 6_400;

/** What a statement does for a page. */
export interface Step {
  readonly driver: Driver;
  /** How many sessions it may look at; from each value of a walk so many. */
  readonly look: number;
}

/** How the page may be found, step by step: each goes on where the one before has come to. Of a set that is too large, nothing. */
export function stepsOf(filter: SessionFilter, { by }: Sort, limit: number): Step[] {
  const sets = setsOf(filter).map((set) => ({ driver: { set }, look: mostSorted }));
  if (by !== "created_at") return sets;
  const unordered = sets.filter(({ driver: { set } }) => !isWalked(set));
  const walked = walkSteps(filter, limit);
  // To read a set whole costs more than a small look at an order that leaves few.
  const isSetBest = filter.externalId !== undefined || unordered.length === sets.length;
  const before = isSetBest ? 0 : walksOf(filter).length;
  return [...walked.slice(0, before), ...unordered, ...walked.slice(before)];
}

/** Whether an index gives the set in the order of time, too. */
function isWalked(set: SetName): set is SetName & WalkName {
  return set === "value" || set === "label" || set === "name" || set === "agent";
}

function walkSteps(filter: SessionFilter, limit: number): Step[] {
  const isIntoContexts = filter.contextContains !== undefined;
  const [each, most] = isIntoContexts ? [looksIntoContexts, mostContexts] : [looks, mostOfAPage];
  const walks = walksOf(filter);
  const steps: Step[] = [];
  for (let round = 0, looked = 0; looked < most; round++) {
    const look = each[Math.min(round, each.length - 1)] ?? mostOfAStatement;
    for (const walk of walks)
      steps.push({ driver: { walk }, look: lookOfValue(look, valueCount(walk, filter), limit) });
    looked += look * walks.length;
  }
  return steps;
}

/** Each value has its share; and a page, as long as that is not too much: it could be all of one value. */
function lookOfValue(look: number, values: number, limit: number): number {
  return Math.max(Math.ceil(look / values), Math.min(limit + 1, Math.floor(mostOfAStatement / values)), 1);
}

/** At how many values a walk begins. */
export function valueCount(walk: WalkName, filter: SessionFilter): number {
  const { agentIds, sessionTypes, runtimeBackends } = filter;
  const counts: Partial<Record<WalkName, number>> = {
    agent: agentIds?.length ?? 1,
    type: (sessionTypes?.length ?? 1) * statusesOf(filter).length,
    status: statusesOf(filter).length,
    backend: runtimeBackends?.length ?? 1,
  };
  return Math.max(counts[walk] ?? 1, 1);
}

/** The sets that the filter has, in the order in which they are tried. */
export function setsOf(filter: SessionFilter): SetName[] {
  const given = selective.filter((name) => filter[name] !== undefined);
  return given.map((name) => {
    if (name === "labels") return labelDriver(filter);
    return name === "agentIds" ? "agent" : name;
  });
}

/** The orders of time that the filter has, in the order in which they are tried: one at least. */
export function walksOf(filter: SessionFilter): readonly [WalkName, ...WalkName[]] {
  const isOfStatus = filter.phases !== undefined || isOfEnded(filter);
  const [first, ...others]: WalkName[] = [
    ...(filter.agentIds === undefined ? [] : ["agent" as const]),
    ...(filter.name === undefined ? [] : ["name" as const]),
    ...(filter.labels === undefined ? [] : [labelDriver(filter)]),
    ...(filter.sessionTypes === undefined ? [] : ["type" as const]),
    // The order by type knows the status.
    ...(isOfStatus && filter.sessionTypes === undefined ? ["status" as const] : []),
    ...(filter.runtimeBackends === undefined ? [] : ["backend" as const]),
  ];
  return first === undefined ? ["time"] : [first, ...others];
}

function labelDriver({ labels = [] }: SessionFilter): "value" | "label" {
  return ordered(labels)[0]?.value === undefined ? "label" : "value";
}
