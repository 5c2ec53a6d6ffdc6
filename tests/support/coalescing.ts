/**
 * Whether requests travel together, for tests of what is written one way or the other: as the run says, which CI makes both
 * ways (`COALESCE=off npx vitest run …`).
 */
export const coalescing = [process.env["COALESCE"] ?? "on"];
