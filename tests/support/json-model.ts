/** Merge Patch (RFC 7396) and JSON Patch (RFC 6902) as their texts say it, over plain values: what ours is compared with. */

import { isDeepStrictEqual } from "node:util";

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Section 2 of RFC 7396, word for word. */
export function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const merged = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) merged.delete(name);
    else merged.set(name, mergePatch(merged.get(name), value));
  }
  return Object.fromEntries(merged);
}

export interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string;
  readonly value?: Json;
}

/** @returns undefined where an operation fails */
export function jsonPatch(document: Json, operations: readonly Operation[]): Json | undefined {
  let whole: Json | undefined = structuredClone(document);
  for (const operation of operations) {
    whole = applied(whole, operation);
    if (whole === undefined) return undefined;
  }
  return whole;
}

function parts(pointer: string): string[] {
  const [, ...rest] = pointer.split("/");
  return rest.map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function applied(whole: Json, { op, path, from = "", value = null }: Operation): Json | undefined {
  const at = parts(path);
  switch (op) {
    case "add":
      return added(whole, at, value);
    case "remove":
      return removed(whole, at);
    case "replace":
      return found(whole, at) === undefined ? undefined : put(whole, at, value);
    case "test": {
      const there = found(whole, at);
      return there !== undefined && isDeepStrictEqual(there, value) ? whole : undefined;
    }
    case "copy": {
      const there = found(whole, parts(from));
      return there === undefined ? undefined : added(whole, at, there);
    }
    default: {
      if (path.startsWith(`${from}/`)) return undefined;
      const there = found(whole, parts(from));
      if (there === undefined) return undefined;
      if (path === from) return whole;
      const rest = path === "" ? there : removed(whole, parts(from));
      return rest === undefined || path === "" ? rest : added(rest, at, there);
    }
  }
}

function isIndex(part: string, length: number): boolean {
  return /^(0|[1-9]\d*)$/.test(part) && Number(part) < length;
}

function found(value: Json, [first, ...rest]: string[]): Json | undefined {
  if (first === undefined) return value;
  if (Array.isArray(value)) {
    const element = isIndex(first, value.length) ? value[Number(first)] : undefined;
    return element === undefined ? undefined : found(element, rest);
  }
  if (!isObject(value)) return undefined;
  const member = Object.hasOwn(value, first) ? value[first] : undefined;
  return member === undefined ? undefined : found(member, rest);
}

/** In place of what is there, or as a new member. */
function put(value: Json, [first, ...rest]: string[], what: Json): Json {
  if (first === undefined) return what;
  if (Array.isArray(value)) return value.with(Number(first), put(value[Number(first)] ?? null, rest, what));
  if (!isObject(value)) throw new Error("nothing can be put there");
  const member = Object.hasOwn(value, first) ? (value[first] ?? null) : null;
  return Object.fromEntries([...Object.entries(value), [first, put(member, rest, what)]]);
}

function added(whole: Json, at: string[], value: Json): Json | undefined {
  const last = at.at(-1);
  if (last === undefined) return value;
  const parent = found(whole, at.slice(0, -1));
  if (isObject(parent)) return put(whole, at, value);
  if (!Array.isArray(parent)) return undefined;
  const index = last === "-" ? String(parent.length) : last;
  if (!isIndex(index, parent.length + 1)) return undefined;
  return put(whole, at.slice(0, -1), parent.toSpliced(Number(index), 0, value));
}

function removed(whole: Json, at: string[]): Json | undefined {
  const last = at.at(-1);
  if (last === undefined || found(whole, at) === undefined) return undefined;
  const parent = found(whole, at.slice(0, -1));
  if (Array.isArray(parent)) return put(whole, at.slice(0, -1), parent.toSpliced(Number(last), 1));
  const members = Object.entries((parent ?? {}) as JsonObject).filter(([key]) => key !== last);
  return put(whole, at.slice(0, -1), Object.fromEntries(members));
}
