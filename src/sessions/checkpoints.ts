/** The checkpoints of sessions, as the API uses them. */

import type { Queries } from "../db/client.ts";
import { type CheckpointDeletion, type CheckpointDeletionResult, deleteCheckpoint } from "./checkpoint-delete.ts";
import {
  type CheckpointListQuery,
  type CheckpointPage,
  type CheckpointQuery,
  type CheckpointReading,
  listCheckpoints,
  readCheckpoint,
} from "./checkpoint-read.ts";
import {
  type CheckpointRestore,
  type NewCheckpoint,
  type RestoreResult,
  restoreCheckpoint,
  type SaveResult,
  saveCheckpoint,
} from "./checkpoint-save.ts";
import type { RequestContext } from "./context.ts";

export interface Checkpoints {
  saveCheckpoint(context: RequestContext, checkpoint: NewCheckpoint): Promise<SaveResult>;
  restoreCheckpoint(context: RequestContext, asked: CheckpointRestore): Promise<RestoreResult>;
  readCheckpoint(context: RequestContext, query: CheckpointQuery): Promise<CheckpointReading>;
  listCheckpoints(context: RequestContext, query: CheckpointListQuery): Promise<CheckpointPage>;
  deleteCheckpoint(context: RequestContext, deletion: CheckpointDeletion): Promise<CheckpointDeletionResult>;
}

/** @param database the pool, or a transaction: the commands are then part of it */
export function openCheckpoints(database: Queries): Checkpoints {
  return {
    saveCheckpoint: (context, checkpoint) => saveCheckpoint(database, context, checkpoint),
    restoreCheckpoint: (context, asked) => restoreCheckpoint(database, context, asked),
    readCheckpoint: (context, query) => readCheckpoint(database, context, query),
    listCheckpoints: (context, query) => listCheckpoints(database, context, query),
    deleteCheckpoint: (context, deletion) => deleteCheckpoint(database, context, deletion),
  };
}
