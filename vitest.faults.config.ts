import { defineConfig } from "vitest/config";

/** What FAULTS=short leaves out: CI has ten minutes for all there is. */
const whole = ["clocks", "late-commit", "lease", "lease-outage", "replicas", "restore", "rolling-restart", "stop"];

/** The long runs: processes killed, engines restarted. FAULTS=short leaves some out, and makes each a tenth as long, for CI. */
export default defineConfig({
  test: {
    include: ["tests/faults/**/*.test.ts"],
    exclude: process.env["FAULTS"] === "short" ? whole.map((name) => `tests/faults/${name}.test.ts`) : [],
    testTimeout: 600_000,
    hookTimeout: 120_000,
    fileParallelism: false,
  },
});
