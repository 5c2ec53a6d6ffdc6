import { appendFileSync } from "node:fs";
import { afterAll, beforeAll, it } from "vitest";
import { startTestService, type TestService } from "./support/service.ts";

let s: TestService;
const out = (...x: unknown[]) => appendFileSync("/tmp/h/r6.out", x.join(" ").replaceAll("\n", " ") + "\n");
beforeAll(async () => {
  s = await startTestService();
});
afterAll(() => s.stop());
const jp = { "content-type": "application/json-patch+json" };
const mp = { "content-type": "application/merge-patch+json" };
const log = (name: string, a: any, t = 0) =>
  out(`R6 ${name}: ${a.status} ${t ? `${Math.round(performance.now() - t)}ms ` : ""}${a.text.slice(0, 260)}`);
const patch = async (name: string, id: string, ops: unknown, h: any = jp) => {
  const t = performance.now();
  const a = await s.request("PATCH", `/sessions/${id}/context`, ops, h);
  log(name, a, t);
  return a;
};
it("odd pointers", async () => {
  const id = await s.create({ context: { a: [1, 2, 3], o: { "1": 1, "": 2, "-": 3, " 1": 4 }, n: 1 } });
  for (const p of [
    "/a/2147483648",
    "/a/-2147483649",
    "/a/99999999999999999999",
    "/a/1 ",
    "/a/ 1",
    "/a/\t1",
    "/a/",
    "/a/+1",
    "/a/1e0",
    "/a/01",
    "/a/-",
    "/n/x",
    "/o/-",
    "/o/ 1",
    "/o/",
  ]) {
    for (const op of ["test", "add", "replace", "remove"]) {
      const a = await s.request(
        "PATCH",
        `/sessions/${id}/context`,
        [
          { op: "test", path: "/n", value: 1 },
          { op, path: p, value: 1 },
          { op: "test", path: "/n", value: 99 },
        ],
        jp,
      );
      const b = await s.request("POST", `/sessions/${id}/context/increment`, { [p]: 0 });
      if ((a.status !== 409 && a.status !== 422) || b.status >= 500)
        log(`${op} ${JSON.stringify(p)} incr ${b.status}`, a);
    }
  }
  for (const body of [
    '{"":1}',
    '{"/a/-":1}',
    '{"/a/7":1}',
    '{"/a~2":1}',
    '{"/n":"1"}',
    '{"/n":-0}',
    '{"/n":1e-399}',
    "[]",
    "{}",
    '{"/q":1e399}',
    '{"/n":1, "/n/x":1}',
    '{"/\\u0000":1}',
    '{"/__proto__":1}',
    '{"/new/deep":1}',
    '{"/n":-}',
    "null",
    "5",
  ])
    log(`incr ${body}`, await s.request("POST", `/sessions/${id}/context/increment`, body));
  for (const body of [
    '[{"op":"add","path":"/z","value":{"\\u0000":1}}]',
    '[{"op":"add","path":"/\\u0000","value":1}]',
    '[{"op":"add","path":"/\\ud800","value":1}]',
    '[{"__proto__":{"op":"add"},"path":"/x","value":1}]',
    '[{"op":"add","path":"/__proto__","value":{"x":1}},{"op":"test","path":"/__proto__/x","value":1}]',
    '[{"op":"toString","path":"/x"}]',
    '[{"op":"add","path":"","value":[1]},{"op":"add","path":"","value":{"k":1}}]',
    '[{"op":"remove","path":""},{"op":"add","path":"/a","value":1}]',
    '[{"op":"move","from":"","path":""}]',
    '[{"op":"copy","from":"","path":"/self"}]',
    '[{"op":"add","path":"","value":5},{"op":"replace","path":"/0","value":1}]',
    '[{"op":"add","path":"","value":5},{"op":"add","path":"/0","value":1}]',
    '[{"op":"add","path":"","value":"abc"},{"op":"remove","path":"/0"}]',
    '[{"op":"add","op":"remove","path":"/k","value":1}]',
    "[]",
    "[[]]",
    "[null]",
    "5",
    '[{"op":"test","path":"/a"}]',
  ])
    await patch(body, id, body);
  for (const body of [
    '{"a":{"\\u0000":1}}',
    '{"__proto__":{"x":1.10}}',
    '{"__proto__":null}',
    '{"a":1,"a":{"b":1,"b":2}}',
    "[]",
    "null",
    '{"x":1e999999}',
    '{"k":{"s":"null","t":null,"u":{}}}',
  ])
    await patch(body, id, body, mp);
  for (const q of ["/a%00", "/%ED%A0%80", "/a&pointer=/b", "a", "/~", "/__proto__/x", ""])
    log(`get ${q}`, await s.request("GET", `/sessions/${id}/context?pointer=${q}`));
});
it("checkpoint odds", async () => {
  const id = await s.create({});
  for (const body of [
    '{"data":{"a":1.10}}',
    '{"data":{"\\u0000":1}}',
    '{"data":null}',
    '{"data":[]}',
    '{"data":{},"label":"a\\u0000"}',
    '{"data":{},"description":"\\u0000"}',
    '{"data":{},"description":"\\ud800"}',
    '{"data":{},"checkpoint_ns":"\\ud800"}',
    '{"data":{},"data":{"b":1e5}}',
    "{}",
    "",
  ])
    log(`save ${body}`, await s.request("POST", `/sessions/${id}/checkpoints`, body));
  for (const n of [
    "0",
    "-1",
    "2147483647",
    "2147483648",
    "9999999999",
    "1e0",
    "01",
    "latest",
    "%00",
    "x".repeat(300),
  ]) {
    const g = await s.request("GET", `/sessions/${id}/checkpoints/${n}`),
      d = await s.request("DELETE", `/sessions/${id}/checkpoints/${n}`),
      r = await s.request("POST", `/sessions/${id}/checkpoints/${n}/restore`);
    out("R6 num", n.slice(0, 20), g.status, d.status, r.status);
  }
  for (const q of [
    "checkpoint_ns=%00",
    "label=%00",
    "label=a%ED%A0%80",
    "checkpoint_ns=",
    "type=",
    "include=data,context",
    "cursor=x",
    "limit=0",
    "limit=99999999999",
  ])
    log(`list ${q}`, await s.request("GET", `/sessions/${id}/checkpoints?${q}`));
  for (const b of [
    '{"keep_last":1.0}',
    '{"keep_last":1e0}',
    '{"keep_last":-1}',
    '{"keep_days":36500,"keep_last":1}',
    '{"keep_daily_days":36500}',
    "[]",
    "null",
    '{"dry_run":"x"}',
  ])
    log(`prune ${b}`, await s.request("POST", `/sessions/${id}/prune`, b));
  out(
    "R6 count",
    JSON.stringify(
      await s.database
        .sql`select checkpoint_count, last_checkpoint, (select count(*) from checkpoints c where c.session_id = s.id) from sessions s where id = ${id}`,
    ),
  );
});
