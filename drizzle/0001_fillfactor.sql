-- Room on each page for the next version of a row, so that a heartbeat or a checkpoint stays a HOT update.
ALTER TABLE "sessions" SET (fillfactor = 85);
