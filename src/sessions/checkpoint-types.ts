/** What a checkpoint was saved for. */

/**
 * `manual`: somebody asked for it; `milestone`: and means to keep it; `auto`: when the session ended; `recovery_point`: when
 * it crashed.
 */
export const checkpointTypes = ["manual", "milestone", "auto", "recovery_point"] as const;
export type CheckpointType = (typeof checkpointTypes)[number];
