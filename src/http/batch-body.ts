/** The sessions of a batch as its body says them: each is read, checked and weighed by itself, and its texts are its own. */

import { setImmediate as nextTurn } from "node:timers/promises";
import { errors } from "../errors.ts";
import { readJson, textsWithin } from "../json.ts";
import { type ErrorCode, type FieldError, ServiceError } from "../service-error.ts";
import type { NewSession } from "../sessions/create.ts";
import type { ExternalIdTaken } from "../sessions/external-id.ts";
import type { Settings } from "../sessions/fields.ts";
import { type DocumentLimits, tooLarge } from "./document-limits.ts";
import { batchElementSchema, mostSessions } from "./schemas/batch.ts";
import { freeFormKeys } from "./schemas/free-form.ts";
import { newSessionOf, type Texts } from "./session-body.ts";
import { checked } from "./validation.ts";

/** What is wrong with one session of a batch: pointers are into the body. */
export interface Refused {
  readonly code: ErrorCode;
  readonly problems: readonly FieldError[];
  /** What the problem tells beside that. */
  readonly members?: ServiceError["members"];
}

export type Read = { readonly input: NewSession; readonly refused?: undefined } | { readonly refused: Refused };

/** A turn of the event loop has so many sessions, or so many characters, whichever come first: some ms of work. */
const sessionsOfTurn = 50;
const charactersOfTurn = 250_000;

/**
 * Calls `run` for each, and lets others have their turn in between.
 *
 * @param weight in characters
 */
export async function inTurns<Item, Result>(
  items: readonly Item[],
  weight: (item: Item) => number,
  run: (item: Item, at: number) => Result,
): Promise<Result[]> {
  const results: Result[] = [];
  let [count, characters] = [0, 0];
  for (const item of items) {
    if (count === sessionsOfTurn || characters > charactersOfTurn) {
      await nextTurn();
      [count, characters] = [0, 0];
    }
    results.push(run(item, results.length));
    count++;
    characters += weight(item);
  }
  // What follows is one piece of work with all of them.
  if (items.length > sessionsOfTurn) await nextTurn();
  return results;
}

/**
 * Reads the sessions of a batch.
 *
 * @param texts of the body's members
 * @returns for each session what is to be created, or what is wrong with it
 * @throws {ServiceError} validation_failed when they are too few or too many
 */
export function readSessions(texts: Texts, limits: DocumentLimits, defaultTimers: Settings): Promise<Read[]> {
  const bodies = [...textsWithin(texts.get("sessions") ?? "[]").values()];
  if (bodies.length === 0 || bodies.length > mostSessions) {
    const detail = `must have 1 to ${mostSessions} sessions`;
    throw errors.validationFailed([{ pointer: "/sessions", detail }]);
  }
  return inTurns(
    bodies,
    (text) => text.length,
    (text, at) => readSession(text, at, limits, defaultTimers),
  );
}

function readSession(text: string, at: number, limits: DocumentLimits, defaultTimers: Settings): Read {
  const within = (problems: readonly FieldError[]) =>
    problems.map(({ pointer = "", detail }) => ({ pointer: `/sessions/${at}${pointer}`, detail }));
  try {
    const body = readJson(text, freeFormKeys(batchElementSchema));
    const { value, problems } = checked(batchElementSchema, body.value, true);
    if (problems !== undefined) return { refused: { code: "validation_failed", problems: within(problems) } };
    const large = tooLarge(body.texts, limits);
    if (large === undefined) return { input: newSessionOf(value, body.texts, defaultTimers) };
    const { code, message, members } = large.refusal;
    const detail = message.replace(/\.$/, "");
    return { refused: { code, problems: within([{ pointer: `/${large.member}`, detail }]), members } };
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    const told = (error.members["errors"] ?? [{ detail: error.message }]) as readonly FieldError[];
    return { refused: { code: error.code, problems: within(told) } };
  }
}

/** What is wrong with a session of a batch whose external id another one has. */
export function takenAt({ externalId, ownerId }: ExternalIdTaken, at: number): Refused {
  const { code, message, members } = errors.externalIdTaken(externalId, ownerId);
  const detail = message.replace(/\.$/, "");
  return { code, problems: [{ pointer: `/sessions/${at}/external_id`, detail }], members };
}

/** The problem that tells what is wrong with all of these: under their code, where they have one, else as validation_failed. */
export function problemOf(refused: readonly Refused[]): ServiceError {
  const [first] = refused;
  const isAlike = refused.every(({ code }) => code === first?.code);
  const { message, members } = errors.validationFailed(refused.flatMap(({ problems }) => problems));
  return new ServiceError(isAlike && first ? first.code : "validation_failed", message, {
    members: refused.length === 1 ? { ...first?.members, ...members } : members,
  });
}
