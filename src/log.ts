/** Structured logs, on standard error: standard output is for what a person reads at start. */

import { destination, type Logger, pino } from "pino";

/** Never in a log: what clients store, and what they authenticate with. */
const secret = [
  "context",
  "checkpoint",
  "metadata",
  "runtime_metadata",
  "payload",
  "headers.authorization",
  'headers["x-api-key"]',
];

/** @param level the least level that is logged */
export function openLog(level: string): Logger {
  return pino(
    {
      level,
      base: { service: "session-service" },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secret.flatMap((path) => [path, path.startsWith("[") ? `*${path}` : `*.${path}`]),
        censor: "[redacted]",
      },
    },
    destination(2),
  );
}
