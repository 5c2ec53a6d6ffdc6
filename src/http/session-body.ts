/** What the bodies of requests say of sessions, as the commands take it: documents as text, the rest as values. */

import type { z } from "zod";
import { textsWithin } from "../json.ts";
import type { NewSession } from "../sessions/create.ts";
import {
  type DetailName,
  type Details,
  detailNames,
  type Outcome,
  type Settings,
  settingNames,
  unclearable,
} from "../sessions/fields.ts";
import { type createSessionSchema, firstAgent, type updateSessionSchema } from "./schemas/session.ts";
import { longestStack } from "./schemas/session-fields.ts";
import { askedState } from "./schemas/state-words.ts";

export type Texts = ReadonlyMap<string, string>;

/** A body of one of the routes that change a session; each lets some of these through. */
export type UpdateBody = Partial<z.output<typeof updateSessionSchema>>;

/** A body of one of the routes that create a session. */
export type CreateBody = z.output<typeof createSessionSchema>;

type Body = UpdateBody | Partial<CreateBody>;

/** The text of a document in a body; undefined when it is absent, or null. */
export function documentText(texts: Texts, key: string): string | undefined {
  const text = texts.get(key);
  return text === "null" ? undefined : text;
}

/** The text of what null clears; null when it is null. */
export function clearableText(texts: Texts, key: string): string | null | undefined {
  const text = texts.get(key);
  return text === "null" ? null : text;
}

/**
 * The session that a body asks for.
 *
 * @param defaults the timers of a session that does not say
 */
export function newSessionOf(body: CreateBody, texts: Texts, defaults: Settings): NewSession {
  return {
    agentId: firstAgent(body) ?? "",
    sessionType: body.session_type ?? "conversation",
    phase: askedState(body)?.entry ?? (body.scheduled_at == null ? "running" : "pending"),
    runtimeBackend: body.runtime_backend ?? "unknown",
    context: documentText(texts, "context"),
    checkpoint: documentText(texts, "checkpoint"),
    runtimeMetadata: documentText(texts, "runtime_metadata"),
    settings: withDefaults(settingsOf(body), defaults),
    details: detailsOf(body, texts),
    stats: documentText(texts, "stats"),
    statsMax: documentText(texts, "stats_max"),
  };
}

/** A timer that is not set, or set to null, is the default's; one that is 0 is off. */
function withDefaults(asked: Settings | undefined, defaults: Settings): Settings | undefined {
  const given = Object.entries(asked ?? {}).filter(([, value]) => value !== null);
  const settings: Settings = { ...defaults, ...Object.fromEntries(given) };
  return Object.keys(settings).length === 0 ? undefined : settings;
}

/** The settings that a body names; undefined when it names none. */
export function settingsOf(body: Body): Settings | undefined {
  const { timeout, timeout_seconds = timeout } = body;
  const named: Settings = timeout === undefined ? body : { ...body, timeout_seconds };
  const given = settingNames.filter(
    (name) => named[name] !== undefined && (named[name] !== null || name !== unclearable),
  );
  return given.length === 0 ? undefined : Object.fromEntries(given.map((name) => [name, named[name]]));
}

/**
 * The details that a body names; undefined when it names none.
 *
 * @param merges whether what is null in them is removed, and not absent
 */
export function detailsOf(body: Body, texts: Texts, merges = false): Details | undefined {
  const details = new Map<DetailName, string>();
  for (const name of detailNames) {
    const text = merges && name !== "agents" ? texts.get(name) : detailText(name, body, texts);
    if (text !== undefined) details.set(name, text);
  }
  const prompt = details.get("prompt") ?? texts.get("starting_prompt");
  if (prompt !== undefined) details.set("prompt", prompt);
  return details.size === 0 ? undefined : details;
}

function detailText(name: DetailName, body: Body, texts: Texts): string | undefined {
  if (name === "agents") return agentsText(body, texts);
  if (name === "checkpoint_retention") return rulesText(body);
  return texts.get(name);
}

/** What is null is as if it were absent; where no rule is left, nothing is said. */
function rulesText({ checkpoint_retention: rules }: Body): string | undefined {
  if (rules == null) return rules === null ? "null" : undefined;
  const given = Object.entries(rules).filter(([, value]) => value != null);
  return given.length === 0 ? "null" : JSON.stringify(Object.fromEntries(given));
}

/** Agents that were named by their ids alone become objects. */
function agentsText({ agents, agent_ids: ids }: Body, texts: Texts): string | undefined {
  if (agents == null) {
    if (ids == null) return agents === null || ids === null ? "null" : undefined;
    return JSON.stringify(ids.map((id) => ({ id })));
  }
  const given = textsWithin(texts.get("agents") ?? "");
  const each = agents.map((agent, at) =>
    typeof agent === "string" ? JSON.stringify({ id: agent }) : given.get(String(at)),
  );
  return `[${each.join(",")}]`;
}

/**
 * What a body says of how the work went.
 *
 * @param merges whether the error is merged into the one that there is
 */
export function outcomeOf(body: UpdateBody, texts: Texts, merges = false): Outcome {
  return {
    error: errorText(body.error, merges),
    result: clearableText(texts, "result"),
    stats: documentText(texts, "stats"),
    statsSet: documentText(texts, "stats_set"),
    statsMax: documentText(texts, "stats_max"),
  };
}

/** A text is all that there is of an error: merged, it leaves nothing of another one. */
function errorText(error: UpdateBody["error"], merges: boolean): string | null | undefined {
  if (error == null) return error;
  if (typeof error === "string") {
    return JSON.stringify(merges ? { code: null, message: error, stack: null } : { message: error });
  }
  const { code, message, stack } = error;
  return JSON.stringify({ code, message, stack: typeof stack === "string" ? cut(stack) : stack });
}

/** At most `longestStack` bytes of UTF-8, and no half character. */
function cut(stack: string): string {
  const bytes = Buffer.from(stack);
  if (bytes.length <= longestStack) return stack;
  let end = longestStack;
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}
