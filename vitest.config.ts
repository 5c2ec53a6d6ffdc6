import { defineConfig } from "vitest/config";
import { scratchRoot } from "./tests/support/scratch.ts";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    exclude: ["tests/faults/**", "node_modules/**"],
    globalSetup: ["tests/support/global-setup.ts"],
    // Most of a test is waiting: for engines, sockets and processes.
    maxWorkers: 4,
    // A test file keeps nothing in its modules: loading all of src anew for each took a third of the time.
    isolate: false,
    // What tests make is thrown away, and a disk takes its time with it.
    env: { TMPDIR: scratchRoot() },
    testTimeout: 20_000,
    hookTimeout: 60_000,
    coverage: {
      provider: "v8",
      reporter: ["text-summary", ["text", { file: "coverage.txt" }]],
      include: ["src/**"],
      // Runs on a thread of its own, which coverage can't see; tests/embedded/valkey*.test.ts try it from outside.
      exclude: ["src/embedded/valkey-worker.ts"],
      // What only root can try (PostgreSQL gives up root's rights) is left out for other users, and its lines with it.
      thresholds: process.getuid?.() === 0 ? { lines: 95 } : {},
    },
  },
});
