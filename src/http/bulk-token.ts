/**
 * The token of a dry run: what it has said, bound to what was asked. It is kept nowhere. Its digest tells an altered one,
 * or one that comes with another request, from ours; it is no secret, for whoever forges one may make a dry run as well.
 */

import { createHash } from "node:crypto";
import { errors } from "../errors.ts";
import type { BulkChange, BulkDryRun } from "../sessions/bulk-jobs.ts";
import type { SessionFilter } from "../sessions/find-query.ts";
import { isInstant } from "./cursor.ts";

/** What the token says. */
export type BulkToken = Pick<BulkDryRun, "jobId" | "asOf" | "count">;

/** What was asked, by which the dry run and the call with its token must be the same. */
export interface BulkAsked {
  readonly filter: SessionFilter;
  readonly change: BulkChange;
}

function digest(said: string, { filter, change }: BulkAsked): string {
  return createHash("sha256")
    .update(JSON.stringify([said, filter, change]))
    .digest("base64url")
    .slice(0, 22);
}

/** Makes the token of a dry run. */
export function sealToken({ jobId, asOf, count }: BulkToken, asked: BulkAsked): string {
  const said = `${asOf}|${count}|${jobId}`;
  return Buffer.from(`${said}|${digest(said, asked)}`).toString("base64url");
}

const uuid = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

/** A count goes into a column of 32 bits. */
const mostCounted = 2_147_483_647;

/**
 * What a token says.
 *
 * @throws bulk_token_invalid when it was altered, cut, or made for another request
 */
export function readToken(token: string, asked: BulkAsked): BulkToken {
  const text = Buffer.from(token, "base64url").toString("utf8");
  const [asOf = "", count = "", jobId = "", sum = "", ...rest] = text.split("|");
  const isOurs =
    Buffer.from(text).toString("base64url") === token &&
    rest.length === 0 &&
    sum === digest(`${asOf}|${count}|${jobId}`, asked) &&
    isInstant(asOf) &&
    /^\d{1,10}$/.test(count) &&
    Number(count) <= mostCounted &&
    uuid.test(jobId);
  if (!isOurs) throw errors.bulkTokenInvalid("It is not of a dry run of this request.");
  return { jobId, asOf, count: Number(count) };
}
