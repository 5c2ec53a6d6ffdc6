/** Prefer (RFC 7240): how a client would like to be answered. */

import type { FastifyRequest } from "fastify";

const preferences = {
  handling: /(^|[,;\s])handling\s*=\s*"?strict"?($|[,;\s])/i,
  return: /(^|[,;\s])return\s*=\s*"?minimal"?($|[,;\s])/i,
};

/** Whether the request says `Prefer: handling=strict`, or `Prefer: return=minimal`. */
export function prefers(
  { headers: { prefer } }: FastifyRequest,
  ...[name]: ["handling", "strict"] | ["return", "minimal"]
): boolean {
  return prefer !== undefined && [prefer].flat().some((value) => preferences[name].test(value));
}
