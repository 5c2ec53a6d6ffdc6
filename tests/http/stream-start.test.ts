import { expect, it } from "vitest";
import { openStream } from "../support/event-source.ts";
import { startProxy, through } from "../support/proxy.ts";
import { startReplica } from "../support/replica.ts";
import { startTestService } from "../support/service.ts";

it("a stream that is open has what comes after that, from the first event on, also where the database is far away", async () => {
  await using service = await startTestService();
  const database = new URL(service.database.url);
  await using proxy = await startProxy({ host: database.hostname, port: Number(database.port) });
  await using replica = await startReplica(service, {
    DATABASE_URL: through(proxy, service.database.url),
    RELAY: "off",
  });
  const id = await service.create();
  proxy.delay(120);
  for (const path of [`/sessions/${id}/events/stream`, "/events/stream", `/sessions/${id}/events/stream`]) {
    // Alone on its replica: nobody has followed the feed there until now.
    await using stream = await openStream(`${replica.url}${path}`);
    await service.request("POST", `/sessions/${id}/events`, { event_type: "thinking", payload: { path } });
    await stream.count(1);
    expect(stream.events.at(-1)?.data).toContain(`{"path": "${path}"}`);
  }
});
