import { appendFileSync } from "node:fs";
import { afterAll, beforeAll, it } from "vitest";
import { startTestService, type TestService } from "./support/service.ts";

let s: TestService;
const out = (...x: unknown[]) => appendFileSync("/tmp/h/r6b.out", x.join(" ").replaceAll("\n", " ") + "\n");
beforeAll(async () => {
  s = await startTestService({ CHECKPOINT_LIMIT_BYTES: "1024", FINAL_CHECKPOINTS: "all" });
});
afterAll(() => s.stop());
const jp = { "content-type": "application/json-patch+json" };
const mp = { "content-type": "application/merge-patch+json" };
async function timed(name: string, run: () => Promise<any>) {
  const other = await s.create({});
  let done = false;
  const seen: Record<string, number> = {};
  let worst = 0;
  const others = (async () => {
    while (!done) {
      const t = performance.now();
      const as = await Promise.all([
        s.request("GET", `/sessions/${other}`),
        s.request("PATCH", `/sessions/${other}`, { context: { n: t } }),
      ]);
      worst = Math.max(worst, performance.now() - t);
      for (const a of as) seen[a.status] = (seen[a.status] ?? 0) + 1;
      await new Promise((r) => setTimeout(r, 50));
    }
  })();
  const t = performance.now();
  const a = await run();
  const ms = Math.round(performance.now() - t);
  done = true;
  await others;
  out(
    `${name}: ${a.status} ${ms}ms others ${JSON.stringify(seen)} worst ${Math.round(worst)}ms ${a.text.slice(0, 200)}`,
  );
}
it("small findings", async () => {
  const id = await s.create({ context: { a: 1 } });
  out(
    "merge key checkpoint",
    (await s.request("PATCH", `/sessions/${id}/context`, { checkpoint: { big: "x".repeat(2000) } }, mp)).text.slice(
      0,
      200,
    ),
  );
  // ns save clears unsaved
  await s.request("PATCH", `/sessions/${id}`, { context: { a: 2 } });
  await s.request("POST", `/sessions/${id}/checkpoints`, { data: { x: 1 }, checkpoint_ns: "reviewer" });
  out(
    "ns save",
    JSON.stringify(await s.database.sql`select is_context_unsaved, checkpoint from sessions where id = ${id}`),
  );
  // restored are labelled
  const r = await s.create({ checkpoint: { n: 0 } });
  for (let i = 0; i < 6; i++) await s.request("POST", `/sessions/${r}/checkpoints/1/restore`);
  out("prune restored keep_last 1", (await s.request("POST", `/sessions/${r}/prune`, { keep_last: 1 })).text);
  // PATCH same checkpoint with new context
  const q = await s.create({ context: { a: 1 }, checkpoint: { step: 1 } });
  await s.request("PATCH", `/sessions/${q}`, { context: { a: 2 }, checkpoint: { step: 1 } });
  out(
    "same checkpoint",
    JSON.stringify(await s.database.sql`select is_context_unsaved, checkpoint_count from sessions where id = ${q}`),
  );
  // clear while ending
  await s.request("PATCH", `/sessions/${q}`, { context: { a: 3 }, checkpoint: null, status: "crashed" });
  out(
    "clear+crash",
    JSON.stringify(
      await s.database
        .sql`select is_context_unsaved, checkpoint_count, checkpoint, (select count(*) from checkpoints where session_id = s.id) from sessions s where id = ${q}`,
    ),
    (await s.request("GET", `/sessions/${q}/checkpoints/latest`)).text,
    (await s.request("GET", `/sessions/${q}/events`)).text.slice(-600),
  );
  // delete of last '' after clear while final present
  out("delete latest after clear", (await s.request("DELETE", `/sessions/${q}/checkpoints/2`)).status);
});
it("heavy", async () => {
  const z = await s.create({});
  const big = "x".repeat(7_000_000);
  await timed("999 adds after a 7 MB one", () =>
    s.request(
      "PATCH",
      `/sessions/${z}/context`,
      [
        { op: "add", path: "/b", value: big },
        ...Array.from({ length: 999 }, (_, n) => ({ op: "add", path: `/k${n}`, value: n })),
      ],
      jp,
    ),
  );
  const z2 = await s.create({});
  await timed("pointer of 300k leading zeros", () =>
    s.request("PATCH", `/sessions/${z2}/context`, [{ op: "test", path: "/01".repeat(300_000), value: 1 }], jp),
  );
  const z3 = await s.create({});
  await timed("increment pointer of 300k leading zeros", () =>
    s.request("POST", `/sessions/${z3}/context/increment`, { ["/01".repeat(300_000)]: 1 }),
  );
  const z4 = await s.create({ context: { b: "x".repeat(7_900_000) } });
  await timed("100 amounts in 8 MB", () =>
    s.request(
      "POST",
      `/sessions/${z4}/context/increment`,
      Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`/k${n}`, 1])),
    ),
  );
  const z5 = await s.create({ context: { m: [] } });
  await timed("1000 moves deep 1 MB", () =>
    s.request(
      "PATCH",
      `/sessions/${z5}/context`,
      [
        { op: "add", path: "/l", value: Array.from({ length: 200_000 }, () => 1) },
        { op: "add", path: "/o", value: {} },
        ...Array.from({ length: 400 }, (_, n) => ({ op: "copy", from: "/m", path: `/o/k${n}` })),
      ],
      jp,
    ),
  );
});
