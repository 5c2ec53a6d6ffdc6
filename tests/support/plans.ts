/** What a statement reads, run as the pool runs it: prepared. */

import type postgres from "postgres";

interface Plan {
  readonly "Shared Hit Blocks": number;
  readonly "Shared Read Blocks": number;
}

export interface Cost {
  /** Blocks of 8 KiB. */
  readonly buffers: number;
  /** The plan, for who wonders. */
  readonly plan: string;
}

/** Plans that know no parameter, as most are; or those that PostgreSQL makes for the first few times, which know all. */
export type PlanKind = "generic" | "custom";

/** @param parameters as the statement names them; none may have a quote in it */
export async function costOf(
  sql: postgres.Sql,
  statement: string,
  parameters: readonly unknown[],
  kind: PlanKind = "generic",
): Promise<Cost> {
  const values = parameters.map((value) => `'${value}'`).join(", ");
  const types = statement.match(/\$\d+/g)?.map((name) => Number(name.slice(1))) ?? [];
  const text = `prepare page (${Array.from({ length: Math.max(...types) }, () => "text").join(", ")}) as ${statement}`;
  const connection = await sql.reserve();
  try {
    await connection.unsafe(`set plan_cache_mode = force_${kind}_plan`);
    await connection.unsafe(text);
    const [explained] = await connection.unsafe<{ "QUERY PLAN": { Plan: Plan }[] }[]>(
      `explain (analyze, buffers, format json) execute page (${values})`,
    );
    await connection.unsafe("deallocate page");
    const plan = explained?.["QUERY PLAN"][0]?.Plan;
    const buffers = (plan?.["Shared Hit Blocks"] ?? 0) + (plan?.["Shared Read Blocks"] ?? 0);
    return { buffers, plan: JSON.stringify(plan, null, 1) };
  } finally {
    connection.release();
  }
}
