/** What the OpenAPI file shows of reported events. */

import { eventExamples } from "../asyncapi-examples.ts";

export const reportExamples = {
  thinking: {
    summary: "An iteration began",
    value: { event_type: "thinking", payload: { iteration: 3, tools_used: ["read_file", "bash"] } },
  },
  several: {
    summary: "A command ran, and a file was changed",
    value: [
      {
        event_type: "terminal",
        payload: { command: "npm test", output: "12 passed", error: null, exit_code: 0 },
      },
      { event_type: "file_change", payload: { path: "src/modal.ts", action: "modified" } },
    ],
  },
  own_word: {
    summary: "Something under a word of the runtime's own",
    value: { event_type: "review_requested", payload: { pull_request: 42 } },
  },
};

function exampleOf(type: string) {
  return eventExamples.find(({ event }) => event.event_type === type)?.event;
}

export const reportedExamples = {
  one: { summary: "One event", value: exampleOf("session.thinking") },
  several: { summary: "Several", value: [exampleOf("session.terminal"), exampleOf("session.file_change")] },
};
