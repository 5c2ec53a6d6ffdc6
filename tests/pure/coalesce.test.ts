/** Requests that travel together: each caller gets its own answer, error and deadline. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ServiceError } from "../../src/errors.ts";
import { Coalescer } from "../../src/sessions/coalesce.ts";

interface Call {
  readonly inputs: readonly string[];
  finish(outputs?: readonly (string | undefined)[]): void;
  fail(error: unknown): void;
}

/** A coalescer whose statements end when the test says so. */
function manual(
  options: {
    key?: (input: string) => string;
    group?: (input: string) => string;
    weight?: (input: string) => number;
    deadlineMs?: number;
  } = {},
) {
  const calls: Call[] = [];
  const call = (inputs: readonly string[]) =>
    new Promise<readonly (string | undefined)[]>((resolve, reject) => {
      calls.push({
        inputs,
        finish: (outputs) => resolve(outputs ?? inputs.map((input) => `${input}!`)),
        fail: reject,
      });
    });
  const coalescer = new Coalescer<string, string>({
    group: () => "",
    isRefusal: (error) => !(error instanceof ServiceError),
    ...options,
    run: call,
    runAlone: async (input) => (await call([input]))[0] ?? "",
  });
  return { calls, coalescer };
}

/** One that nobody answers is told so long after the test is over. */
const leave = (answer: Promise<string>) => void answer.catch(() => {});

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("the coalescer", () => {
  it("lets a lone request leave at once", () => {
    const { calls, coalescer } = manual();
    leave(coalescer.add("a"));
    expect(calls.map(({ inputs }) => inputs)).toEqual([["a"]]);
  });

  it("keeps three statements under way, and gathers the others", async () => {
    const { calls, coalescer } = manual();
    const answers = Promise.all(["a", "b", "c", "d", "e", "f"].map((input) => coalescer.add(input)));
    expect(calls.map(({ inputs }) => inputs)).toEqual([["a"], ["b"], ["c"]]);
    calls[1]?.finish();
    await settled();
    expect(calls[3]?.inputs).toEqual(["d", "e", "f"]);
    for (const call of calls) call.finish();
    expect(await answers).toEqual(["a!", "b!", "c!", "d!", "e!", "f!"]);
  });

  it("bounds a batch in number and in weight", async () => {
    const many = manual();
    for (let n = 0; n < 200; n++) leave(many.coalescer.add(String(n)));
    many.calls[0]?.finish();
    await settled();
    expect(many.calls[3]?.inputs).toHaveLength(64);
    const heavy = manual({ weight: () => 600_000 });
    for (let n = 0; n < 10; n++) leave(heavy.coalescer.add(String(n)));
    heavy.calls[0]?.finish();
    await settled();
    expect(heavy.calls[3]?.inputs).toHaveLength(2);
  });

  it("gives a request that came after a batch was sent to a later one", async () => {
    const { calls, coalescer } = manual();
    const first = coalescer.add("x");
    const second = coalescer.add("x");
    expect(calls).toHaveLength(2);
    calls[0]?.finish(["old"]);
    calls[1]?.finish(["new"]);
    expect(await Promise.all([first, second])).toEqual(["old", "new"]);
  });

  it("never has two of one key under way, and keeps their order", async () => {
    const { calls, coalescer } = manual({ key: (input) => input[0] ?? "" });
    const answers = ["a1", "a2", "b1", "a3"].map((input) => coalescer.add(input));
    expect(calls.map(({ inputs }) => inputs)).toEqual([["a1"], ["b1"]]);
    calls[0]?.finish();
    await settled();
    expect(calls[2]?.inputs).toEqual(["a2"]);
    calls[2]?.finish();
    await settled();
    expect(calls[3]?.inputs).toEqual(["a3"]);
    calls[1]?.finish();
    calls[3]?.finish();
    expect(await Promise.all(answers)).toEqual(["a1!", "a2!", "b1!", "a3!"]);
  });

  it("keeps groups apart", async () => {
    const { calls, coalescer } = manual({ group: (input) => input[0] ?? "" });
    for (const input of ["x", "y", "z", "a1", "b1", "a2"]) leave(coalescer.add(input));
    calls[0]?.finish();
    calls[1]?.finish();
    await settled();
    expect(calls.slice(3).map(({ inputs }) => inputs)).toEqual([["a1", "a2"], ["b1"]]);
  });

  it("tries each alone when the database refuses a batch: one bad row fails nobody else", async () => {
    const { calls, coalescer } = manual();
    const answers = Promise.allSettled(["1", "2", "3", "good", "bad", "fine"].map((input) => coalescer.add(input)));
    for (const call of [...calls]) call.finish();
    await settled();
    calls[3]?.fail(new Error("22P05"));
    await settled();
    expect(calls.slice(4).map(({ inputs }) => inputs)).toEqual([["good"], ["bad"], ["fine"]]);
    calls[4]?.finish();
    calls[5]?.fail(new Error("22P05"));
    calls[6]?.finish();
    expect((await answers).map(({ status }) => status)).toEqual([
      "fulfilled",
      "fulfilled",
      "fulfilled",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
  });

  it("does not try again what the database did not answer: it may have been done", async () => {
    const { calls, coalescer } = manual();
    const answers = Promise.allSettled(["1", "2", "3", "a", "b"].map((input) => coalescer.add(input)));
    for (const call of [...calls]) call.finish();
    await settled();
    calls[3]?.fail(new ServiceError("database_unavailable", "gone"));
    expect((await answers).filter(({ status }) => status === "rejected")).toHaveLength(2);
    expect(calls).toHaveLength(4);
  });

  it("lets one that must go alone hold up nobody but its own key", async () => {
    const { calls, coalescer } = manual({ key: (input) => input[0] ?? "" });
    for (const input of ["1", "2", "3"]) leave(coalescer.add(input));
    const locked = coalescer.add("l1");
    const mate = coalescer.add("m1");
    for (const call of [...calls]) call.finish();
    await settled();
    expect(calls[3]?.inputs).toEqual(["l1", "m1"]);
    calls[3]?.finish([undefined, "m1!"]);
    expect(await mate).toBe("m1!");
    const after = coalescer.add("l2");
    leave(coalescer.add("n1"));
    await settled();
    expect(
      calls
        .slice(4)
        .map(({ inputs }) => inputs.join())
        .sort(),
    ).toEqual(["l1", "n1"]);
    calls.find(({ inputs }, at) => at > 3 && inputs[0] === "l1")?.finish();
    expect(await locked).toBe("l1!");
    await settled();
    expect(calls[6]?.inputs).toEqual(["l2"]);
    calls[6]?.finish();
    expect(await after).toBe("l2!");
  });

  it("answers each caller in its time, and never runs what was not sent by then", async () => {
    const { calls, coalescer } = manual({ deadlineMs: 50 });
    const answers = await Promise.allSettled(["1", "2", "3", "late"].map((input) => coalescer.add(input)));
    for (const answer of answers)
      expect(answer).toMatchObject({ status: "rejected", reason: { code: "database_unavailable" } });
    for (const call of [...calls]) call.finish();
    await settled();
    expect(calls).toHaveLength(3);
  });

  it("gives every caller its own answer, whatever comes in whatever order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(fc.nat(5), fc.nat(3)), { maxLength: 60 }), async (asked) => {
        const log: string[] = [];
        const coalescer = new Coalescer<string, string>({
          group: () => "",
          isRefusal: () => true,
          key: (input) => input.split(":")[0] ?? "",
          async runAlone(input) {
            await settled();
            if (input.endsWith("bad")) throw new Error(`refused ${input}`);
            log.push(input);
            return `${input}!`;
          },
          async run(inputs) {
            for (let turns = inputs.length % 4; turns > 0; turns--) await settled();
            if (inputs.length > 1 && inputs.some((input) => input.endsWith("bad"))) throw new Error("bad");
            if (inputs[0]?.endsWith("bad")) throw new Error(`refused ${inputs[0]}`);
            log.push(...inputs);
            return inputs.map((input) => `${input}!`);
          },
        });
        const inputs = asked.map(([key, kind], at) => `${key}:${at}:${kind === 0 ? "bad" : "ok"}`);
        const answers = await Promise.allSettled(inputs.map((input) => coalescer.add(input)));
        answers.forEach((answer, at) => {
          const input = inputs[at] ?? "";
          if (input.endsWith("ok")) expect(answer).toEqual({ status: "fulfilled", value: `${input}!` });
          else expect(answer).toMatchObject({ status: "rejected", reason: { message: `refused ${input}` } });
        });
        for (const key of ["0", "1", "2", "3", "4", "5"]) {
          const done = log.filter((input) => input.startsWith(`${key}:`)).map((input) => Number(input.split(":")[1]));
          expect(done).toEqual([...done].sort((a, b) => a - b));
        }
      }),
      { numRuns: 100 },
    );
  });
});
