/** The fencing token of a lease, as a writer names it. */

import type { FastifyRequest } from "fastify";
import { errors } from "../errors.ts";

/** 1, 2, 3, …; longer ones no bigint holds. */
const tokenPattern = /^[1-9]\d{0,15}$/;

/**
 * The token that a request names: in its header `Lease-Token`, or as `lease_token` in its body, which the schema has
 * checked. Undefined when it names none: the request is then not fenced.
 *
 * @throws validation_failed when the header is no token, or says another one than the body
 */
export function leaseTokenOf({ headers }: FastifyRequest, inBody?: number | null): number | undefined {
  const text = headers["lease-token"];
  if (text === undefined) return inBody ?? undefined;
  if (typeof text !== "string" || !tokenPattern.test(text)) {
    throw refused("must be a lease_token: a whole number from 1");
  }
  const token = Number(text);
  if (inBody != null && inBody !== token) throw refused("must be the lease_token of the body, where both are given");
  return token;
}

function refused(detail: string) {
  return errors.validationFailed([{ parameter: "Lease-Token", detail }]);
}
