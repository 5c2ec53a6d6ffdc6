/** How long a running service is kept from everything else: the longest turn of its event loop. */

import type { Inspector } from "./inspector.ts";

/**
 * Looks at the clocks in each turn of the event loop of a service, at the processor time used, too: while the machine gives
 * its processors to others, the service does not block anybody.
 *
 * @returns tells the longest turn since it was asked last, in milliseconds
 */
export async function startProbe(inspector: Inspector): Promise<() => Promise<number>> {
  await inspector.evaluate(`{
    const usedMs = () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1000;
    };
    let last = { at: performance.now(), used: usedMs() };
    let longest = 0;
    const turn = () => {
      const now = { at: performance.now(), used: usedMs() };
      longest = Math.max(longest, Math.min(now.at - last.at, now.used - last.used));
      last = now;
      setImmediate(turn);
    };
    turn();
    globalThis.longestTurn = () => {
      const told = longest;
      longest = 0;
      return told;
    };
  }`);
  return () => inspector.evaluate<number>("longestTurn()");
}
