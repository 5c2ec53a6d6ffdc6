/** Waiting for a condition, never for time. */

import { setTimeout as sleep } from "node:timers/promises";

/** Looks until it holds, and fails after a while, naming what it waited for. */
export async function until(
  holds: () => boolean | Promise<boolean>,
  what: string,
  { withinMs = 10_000, everyMs = 10 } = {},
): Promise<void> {
  const end = performance.now() + withinMs;
  for (;;) {
    if (await holds()) return;
    if (performance.now() > end) throw new Error(`waited ${withinMs} ms in vain for ${what}`);
    await sleep(everyMs);
  }
}
