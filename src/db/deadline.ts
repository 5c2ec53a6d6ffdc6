/** How long a caller waits for the database. */

/** Leaves a client of a gone database with its 503 within 3 s, connecting included. */
const usualMs = 2_500;

/** To read, compare and write large documents is work, and no sign that anything is wrong. */
const stepBytes = 512 * 1024;
const msPerStep = 250;

/**
 * @param bytes of text that the caller has for the database
 * @param ms how long it waits with few
 */
export function deadlineFor(bytes: number, ms: number = usualMs): number {
  return ms + Math.floor(bytes / stepBytes) * msPerStep;
}
