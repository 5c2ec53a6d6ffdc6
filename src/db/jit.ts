/** PostgreSQL's just-in-time compilation of statements. */

import type { Logger } from "pino";
import type { Queries } from "./client.ts";

const warning =
  "PostgreSQL compiles large statements each time anew (jit = on), so that finding and counting sessions takes seconds. " +
  "Through a pooler the service cannot turn that off: ALTER ROLE … SET jit = off, for the role of DATABASE_URL.";

/**
 * Warns where the server compiles the service's statements. On connections of its own the service turns that off (see
 * line.ts); a pooler would refuse the parameter that says so.
 */
export async function warnOfCompilation(database: Queries, log: Logger): Promise<void> {
  try {
    const [row] = await database.query<{ readonly compiles: boolean }>("select pg_jit_available() as compiles");
    if (row?.compiles) log.warn(warning);
  } catch (error) {
    log.debug({ err: error }, "whether PostgreSQL compiles statements is not known");
  }
}
