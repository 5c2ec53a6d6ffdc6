import { defineConfig } from "vitest/config";

/** The long runs: processes killed, engines restarted. FAULTS=short makes each a tenth as long, for CI. */
export default defineConfig({
  test: {
    include: ["tests/faults/**/*.test.ts"],
    testTimeout: 600_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
