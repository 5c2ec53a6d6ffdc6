/** A session as `application/merge-patch+json` (RFC 7396): what its body means, as the command takes it. */

import type { FastifyRequest } from "fastify";
import type { Config } from "../config.ts";
import type { SessionChange } from "../sessions/change-input.ts";
import { mediaTypeOf } from "./body.ts";
import { mergePatchType } from "./schemas/context.ts";

/** Whether the body is a merge patch. */
export function isMerge(request: FastifyRequest): boolean {
  return mediaTypeOf(request) === mergePatchType;
}

/**
 * Before the validation: of the labels that a merge patch removes there is nothing to be checked, and the others are as those
 * of any other change. What is to be done is read from the text, which names them all.
 */
export function leaveOutRemovedLabels(request: FastifyRequest, _reply: unknown, done: () => void): void {
  const { body } = request;
  if (isMerge(request) && typeof body === "object" && body !== null && "labels" in body && isObject(body.labels)) {
    const kept = Object.entries(body.labels).filter(([, value]) => value !== null);
    request.body = { ...body, labels: Object.fromEntries(kept) };
  }
  done();
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What bounds a merge. */
export type MergeLimits = Pick<Config, "CONTEXT_LIMIT_BYTES" | "CHECKPOINT_LIMIT_BYTES" | "BODY_LIMIT_BYTES">;

/**
 * The change that a merge patch asks for. Only what is merged is weighed again, once it is: what replaces something has been.
 *
 * @param replacing the same body, as if it were to replace what it names
 */
export function mergeOf({ context, ...replacing }: SessionChange, limits: MergeLimits): SessionChange {
  const { checkpoint, runtimeMetadata, details, error, result } = replacing;
  const merges = [checkpoint, runtimeMetadata, details, error, result].some((said) => said != null);
  return {
    ...replacing,
    ...(context !== undefined && {
      contextEdit: { context_merge: context },
      contextLimit: limits.CONTEXT_LIMIT_BYTES,
    }),
    ...(merges && {
      merges,
      checkpointLimit: limits.CHECKPOINT_LIMIT_BYTES,
      memberLimit: limits.BODY_LIMIT_BYTES,
    }),
  };
}
