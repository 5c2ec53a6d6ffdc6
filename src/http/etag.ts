/** Versions as entity tags: `ETag: "<version>"` (RFC 9110, section 8.8.3). */

/** The tag of a version. */
export function etag(version: number): string {
  return `"${version}"`;
}

/**
 * The versions that an If-Match header names; undefined when it names none in particular (`*`, or no header). Weak tags
 * never match (the comparison is strong), and tags that are not ours match nothing.
 */
export function expectedVersions(ifMatch: string | undefined): number[] | undefined {
  if (ifMatch === undefined || ifMatch.trim() === "*") return undefined;
  return ifMatch.split(",").flatMap((tag) => versionOf(tag));
}

/** The versions that an If-None-Match header names, weakly or not; none where it names none in particular. */
export function namedVersions(ifNoneMatch: string | undefined): number[] {
  return (ifNoneMatch ?? "").split(",").flatMap((tag) => versionOf(tag.trim().replace(/^W\//, "")));
}

function versionOf(tag: string): number[] {
  const digits = /^"(\d{1,10})"$/.exec(tag.trim())?.[1];
  return digits === undefined ? [] : [Number(digits)];
}

/** Whether an If-None-Match header names this version: the client has it already. The comparison is weak. */
export function hasVersion(ifNoneMatch: string | undefined, version: number): boolean {
  if (ifNoneMatch === undefined) return false;
  const tag = etag(version);
  return ifNoneMatch.split(",").some((candidate) => ["*", tag, `W/${tag}`].includes(candidate.trim()));
}
