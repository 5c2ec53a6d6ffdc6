/** How large the documents of a session may be: told from the text that a client sends, before anything is done with it. */

import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { Config } from "../config.ts";
import { errors } from "../errors.ts";
import { textsWithin } from "../json.ts";
import type { ServiceError } from "../service-error.ts";
import { isFreeForm } from "./schemas/free-form.ts";

/** The documents that have a limit. */
export type LimitedDocument = "context" | "checkpoint";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The members of the route's bodies that are one of these documents, beside those with its name. */
    readonly documents?: Readonly<Record<string, LimitedDocument>>;
  }
}

/** Of a document that is too large, so many of its members are named. */
const mostNamed = 3;

/** Of a key, so many characters are told. */
const longestKey = 100;

/** What a character of a text takes in UTF-8, at most. */
const bytesOfCharacter = 3;

const named = { context: "context", checkpoint: "checkpoint" } as const;

/** The limits that the settings give. */
export function documentLimits(config: Pick<Config, "CONTEXT_LIMIT_BYTES" | "CHECKPOINT_LIMIT_BYTES">): DocumentLimits {
  return { context: config.CONTEXT_LIMIT_BYTES, checkpoint: config.CHECKPOINT_LIMIT_BYTES };
}

/** Answers 413 to a body with a document that is too large; for the routes that are added to this instance. */
export function limitDocuments(app: FastifyInstance, config: Config): void {
  const limits = documentLimits(config);
  app.addHook("preHandler", (request, _reply, done) => {
    const { body } = request.routeOptions.schema ?? {};
    // Its members are the client's own, whatever their names.
    if (body instanceof z.ZodType && isFreeForm(body)) {
      done();
      return;
    }
    done(tooLarge(request.bodyTexts, limits, request.routeOptions.config.documents)?.refusal);
  });
}

/** How many bytes each may have. */
export type DocumentLimits = Readonly<Record<LimitedDocument, number>>;

/**
 * The first document of a body that is larger than it may be; undefined when none is.
 *
 * @param texts of the body's members
 * @param documents the members that are one of these documents, beside those with its name
 */
export function tooLarge(
  texts: ReadonlyMap<string, string>,
  limits: DocumentLimits,
  documents: Readonly<Record<string, LimitedDocument>> = {},
): { readonly member: string; readonly refusal: ServiceError } | undefined {
  for (const [member, document] of Object.entries({ ...named, ...documents })) {
    const text = texts.get(member);
    const limit = limits[document];
    if (text === undefined || text.length * bytesOfCharacter <= limit) continue;
    const bytes = Buffer.byteLength(text);
    if (bytes <= limit) continue;
    return { member, refusal: errors.documentTooLarge(document, { bytes, limit, largest: largestMembers(text) }) };
  }
  return undefined;
}

/** The heaviest members of an object, as JSON text, the heaviest first. */
function largestMembers(text: string): { readonly key: string; readonly bytes: number }[] {
  return [...textsWithin(text)]
    .map(([key, member]) => ({ key: key.slice(0, longestKey), bytes: Buffer.byteLength(member) }))
    .sort((one, other) => other.bytes - one.bytes)
    .slice(0, mostNamed);
}
