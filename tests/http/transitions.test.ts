/** Every cell of the transition table, over HTTP. */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { phases, statusOf, transitions } from "../../src/sessions/lifecycle.ts";
import { startTestService, type TestService } from "../support/service.ts";

let service: TestService;
beforeAll(async () => {
  service = await startTestService();
});
afterAll(() => service.stop());

describe.each(phases)("a session that is %s", (from) => {
  async function sessionIn(phase: string): Promise<string> {
    const id = await service.create();
    await service.database.sql`update sessions set phase = ${phase} where id = ${id}`;
    return id;
  }

  it.each(phases)("asked to be %s", async (to) => {
    const id = await sessionIn(from);
    const answer = await service.request("PATCH", `/sessions/${id}`, { phase: to });
    if (from === to) {
      expect(answer).toMatchObject({ status: 200, body: { phase: from, version: 1 } });
    } else if (transitions[from].includes(to)) {
      expect(answer).toMatchObject({ status: 200, body: { phase: to, status: statusOf[to], version: 2 } });
      const [event] = await service.database.sql`select payload from events where session_id = ${id} and sequence = 2`;
      expect(event?.["payload"]).toMatchObject({ from, to, phase: to, status: statusOf[to] });
    } else {
      expect(answer).toMatchObject({
        status: 409,
        body: {
          code: "invalid_transition",
          from,
          to,
          allowed: [...transitions[from]],
          detail: `Invalid state transition: ${from} → ${to}`,
        },
      });
      const [row] = await service.database.sql`select phase, version from sessions where id = ${id}`;
      expect(row).toEqual({ phase: from, version: 1 });
    }
  });
});
