/** Requests that travel together: each caller gets its own answer, error, deadline and cancellation. */

import fc from "fast-check";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { ServiceError } from "../../src/service-error.ts";
import { Coalescer } from "../../src/sessions/coalesce.ts";
import { until } from "../support/until.ts";

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
    isGone?: (input: string) => boolean;
    areLocked?: (inputs: readonly string[]) => Promise<readonly boolean[]>;
    deadlineMs?: number;
    atEndOfTurn?: (send: () => void) => void;
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
    atEndOfTurn: (send) => send(),
    ...options,
    run: call,
    runAlone: async (input) => (await call([input]))[0] ?? "",
  });
  return { calls, coalescer };
}

/** One that nobody answers is told so long after the test is over. */
const leave = (answer: Promise<string>) => void answer.catch(() => {});

/** An input of the property: its key, its number, what becomes of it, its group. */
const asking = fc.record({
  key: fc.nat(5),
  kind: fc.constantFrom("ok", "ok", "bad", "locked"),
  group: fc.nat(1),
  /** Which of those that have asked so far leaves. */
  leaver: fc.option(fc.nat(), { nil: undefined }),
  pause: fc.boolean(),
});

const isOf = (kind: string, input: string) => input.split(":")[2] === kind;

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe("the coalescer", () => {
  it("lets a lone request leave at once", () => {
    const { calls, coalescer } = manual();
    leave(coalescer.add("a"));
    expect(calls.map(({ inputs }) => inputs)).toEqual([["a"]]);
  });

  it("lets those leave together that were read in one turn of the event loop, and the next turn's on their own", async () => {
    const { calls, coalescer } = manual({ atEndOfTurn: setImmediate });
    for (const input of ["a", "b", "c"]) leave(coalescer.add(input));
    expect(calls).toEqual([]);
    await settled();
    leave(coalescer.add("d"));
    await settled();
    expect(calls.map(({ inputs }) => inputs)).toEqual([["a", "b", "c"], ["d"]]);
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

  it("bounds a batch in number and in weight, and lets what is too heavy for any go alone", async () => {
    const many = manual();
    for (let n = 0; n < 200; n++) leave(many.coalescer.add(String(n)));
    for (let at = 0; at < 7; at++) {
      many.calls[at]?.finish();
      await settled();
    }
    expect(many.calls.slice(3).map(({ inputs }) => inputs.length)).toEqual([64, 64, 64, 5]);
    const heavy = manual({ weight: (input) => Number(input.split(" ")[1]) });
    for (const input of ["a 1", "b 1", "c 1"]) leave(heavy.coalescer.add(input));
    for (const kb of [600, 500, 400, 3_000, 20, 10]) leave(heavy.coalescer.add(`x ${kb * 1024}`));
    for (let at = 0; at < 4; at++) {
      heavy.calls[at]?.finish();
      await settled();
    }
    const kilobytes = ({ inputs }: Call) => inputs.map((input) => Number(input.split(" ")[1]) / 1024);
    // What does not fit is the first of a later one: nothing overtakes it again and again.
    expect(heavy.calls.slice(3).map(kilobytes)).toEqual([[600, 400, 20], [500, 10], [3_000]]);
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

  it("lets the longest waiting lead, whichever group filled the batch before", async () => {
    const { calls, coalescer } = manual({ group: (input) => input[0] ?? "" });
    for (const input of ["a1", "a2", "a3", "a4", "b1"]) leave(coalescer.add(input));
    for (let n = 0; n < 100; n++) leave(coalescer.add(`a${n + 5}`));
    calls[0]?.finish();
    await settled();
    calls[1]?.finish();
    await settled();
    expect(calls[3]?.inputs).toHaveLength(64);
    expect(calls[4]?.inputs).toEqual(["b1"]);
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

  describe("when more would have to wait than may", () => {
    /** Four that were skipped: three wait, each alone, and the fourth is set aside. */
    async function fourSkipped(areLocked: (inputs: readonly string[]) => Promise<readonly boolean[]>) {
      const gone = new Set<string>();
      const looked: string[][] = [];
      const { calls, coalescer } = manual({
        isGone: (input) => gone.has(input),
        areLocked(inputs) {
          looked.push([...inputs]);
          return areLocked(inputs);
        },
      });
      for (const input of ["1", "2", "3"]) leave(coalescer.add(input));
      const answers = ["a", "b", "c", "d"].map((input) => coalescer.add(input));
      for (const answer of answers) leave(answer);
      for (const call of [...calls]) call.finish();
      await settled();
      calls[3]?.finish([undefined, undefined, undefined, undefined]);
      await settled();
      expect(calls.slice(4).map(({ inputs }) => inputs)).toEqual([["a"], ["b"], ["c"]]);
      return { calls, coalescer, answers, looked, gone };
    }

    it("lets the others go when they need not wait any more", async () => {
      const { calls, answers, looked } = await fourSkipped(async () => [false]);
      await until(() => calls.length === 8, "the fourth");
      expect(looked).toEqual([["d"]]);
      expect(calls[7]?.inputs).toEqual(["d"]);
      calls[7]?.finish();
      expect(await answers[3]).toBe("d!");
    });

    it("looks again and again while they would have to wait, also when it can't be looked", async () => {
      let looks = 0;
      const { calls, looked } = await fourSkipped(async (inputs) => {
        if (looks++ === 1) throw new ServiceError("database_unavailable", "gone");
        return inputs.map(() => looks < 4);
      });
      await until(() => calls.length === 8, "the fourth");
      expect(looked).toEqual([["d"], ["d"], ["d"], ["d"]]);
    });

    it("lets one of them wait in the place of one that waits no more", async () => {
      const { calls } = await fourSkipped(async (inputs) => inputs.map(() => true));
      calls[5]?.finish();
      await until(() => calls.length === 8, "the fourth");
      expect(calls[7]?.inputs).toEqual(["d"]);
    });

    it("forgets none that comes while it is looked", async () => {
      let told = (_: readonly boolean[]) => {};
      const { calls, coalescer, looked } = await fourSkipped(() => new Promise((resolve) => (told = resolve)));
      await until(() => looked.length === 1, "a look");
      leave(coalescer.add("e"));
      calls[7]?.finish([undefined]);
      await settled();
      told([false]);
      await until(() => looked.length === 2, "another look");
      expect(looked).toEqual([["d"], ["e"]]);
      told([false]);
      await settled();
      expect(calls.slice(8).map(({ inputs }) => inputs)).toEqual([["d"], ["e"]]);
    });

    it("forgets those whose callers have left, and keeps taking new ones", async () => {
      const { calls, coalescer, answers, looked, gone } = await fourSkipped(async (inputs) => inputs.map(() => true));
      gone.add("d");
      await expect(answers[3]).rejects.toMatchObject({ status: 408 });
      const others = looked.length;
      const after = coalescer.add("e");
      expect(calls[7]?.inputs).toEqual(["e"]);
      calls[7]?.finish();
      expect(await after).toBe("e!");
      expect(looked).toHaveLength(others);
    });
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

  it("says that something may have been changed only of what was under way, together or alone", async () => {
    const { calls, coalescer } = manual({
      deadlineMs: 50,
      key: (input) => input,
      areLocked: async (inputs) => inputs.map(() => true),
    });
    const answers: Promise<string>[] = [];
    const add = (input: string) => {
      answers.push(coalescer.add(input));
      for (const answer of answers) leave(answer);
    };
    for (const input of ["alone 1", "alone 2", "alone 3", "set aside"]) {
      add(input);
      calls.at(-1)?.finish([undefined]);
      await settled();
    }
    for (const input of ["sent 1", "sent 2", "sent 3", "waits"]) add(input);
    expect(calls.map((call) => call.inputs.join())).not.toContain("waits");
    const doubtful = (await Promise.allSettled(answers)).map(
      (end) => end.status === "rejected" && /may or may not/.test(end.reason.message),
    );
    expect(doubtful).toEqual([true, true, true, false, true, true, true, false]);
  });

  it("keeps no timer for what has its answer", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    onTestFinished(() => void vi.useRealTimers());
    const { calls, coalescer } = manual({ isGone: (input) => input === "left" });
    const answers = ["done", "failed", "alone", "left"].map((input) => coalescer.add(input));
    for (const answer of answers) leave(answer);
    calls[0]?.finish();
    calls[1]?.fail(new Error("22P05"));
    calls[2]?.finish([undefined]);
    await settled();
    calls[3]?.finish();
    await Promise.allSettled(answers);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("never runs alone what has been skipped or refused when its caller's time was over", async () => {
    const { calls, coalescer } = manual({ deadlineMs: 50 });
    const answers = Promise.allSettled(
      ["skipped", "2", "3", "refused", "refused too"].map((one) => coalescer.add(one)),
    );
    calls[1]?.finish();
    await settled();
    expect(calls[3]?.inputs).toEqual(["refused", "refused too"]);
    await answers;
    calls[0]?.finish([undefined]);
    calls[2]?.finish();
    calls[3]?.fail(new Error("22P05"));
    await settled();
    expect(calls).toHaveLength(4);
  });

  describe("when a caller has left", () => {
    const cancelled = { status: "rejected", reason: { status: 408 } };

    it("does not run what was not sent, and goes on with the others", async () => {
      const gone = new Set<string>();
      const { calls, coalescer } = manual({ isGone: (input) => gone.has(input) });
      const answers = Promise.allSettled(["1", "2", "3", "left", "stays"].map((input) => coalescer.add(input)));
      gone.add("left");
      calls[0]?.finish();
      await settled();
      expect(calls[3]?.inputs).toEqual(["stays"]);
      for (const call of calls) call.finish();
      const ends = await answers;
      expect(ends[3]).toMatchObject(cancelled);
      expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(4);
    });

    it("sends nothing when all have left, and is free for the next", async () => {
      const { calls, coalescer } = manual({ isGone: (input) => input.startsWith("left") });
      const answers = Promise.allSettled(["left 1", "left 2", "left 3", "left 4"].map((input) => coalescer.add(input)));
      for (const end of await answers) expect(end).toMatchObject(cancelled);
      leave(coalescer.add("stays"));
      expect(calls.map(({ inputs }) => inputs)).toEqual([["stays"]]);
    });

    it("goes on with what was sent", async () => {
      const gone = new Set<string>();
      const { calls, coalescer } = manual({ isGone: (input) => gone.has(input) });
      const answer = coalescer.add("sent");
      gone.add("sent");
      calls[0]?.finish();
      expect(await answer).toBe("sent!");
    });

    it("does not run alone what was skipped or refused among others", async () => {
      const gone = new Set<string>();
      const { calls, coalescer } = manual({ isGone: (input) => gone.has(input) });
      const answers = Promise.allSettled(
        ["skipped", "2", "3", "refused", "stays"].map((input) => coalescer.add(input)),
      );
      calls[1]?.finish();
      await settled();
      gone.add("skipped").add("refused");
      calls[0]?.finish([undefined]);
      calls[3]?.fail(new Error("22P05"));
      await settled();
      expect(calls.slice(4).map(({ inputs }) => inputs)).toEqual([["stays"]]);
      for (const call of calls) call.finish();
      const ends = await answers;
      expect([ends[0], ends[3]]).toMatchObject([cancelled, cancelled]);
    });

    it("lets those behind it of the same key take its turn, in their order", async () => {
      const gone = new Set<string>();
      const { calls, coalescer } = manual({ key: (input) => input[0] ?? "", isGone: (input) => gone.has(input) });
      const answers = Promise.allSettled(["a1", "a2", "a3", "a4", "a5"].map((input) => coalescer.add(input)));
      gone.add("a2").add("a4").add("a5");
      for (let at = 0; at < 2; at++) {
        calls[at]?.finish();
        await settled();
      }
      expect(calls.map(({ inputs }) => inputs)).toEqual([["a1"], ["a3"]]);
      const after = coalescer.add("a6");
      await answers;
      expect(calls[2]?.inputs).toEqual(["a6"]);
      calls[2]?.finish();
      expect(await after).toBe("a6!");
    });
  });

  it("lets a later one of a key go before what came after it", async () => {
    const { calls, coalescer } = manual({ key: (input) => input[0] ?? "" });
    for (const input of ["a1", "b1", "c1", "a2"]) leave(coalescer.add(input));
    for (let n = 0; n < 100; n++) leave(coalescer.add(String.fromCodePoint(1_000 + n)));
    calls[0]?.finish();
    await settled();
    expect(calls[3]?.inputs[0]).toBe("a2");
  });

  it("gives every caller its own answer, whatever comes in whatever order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(asking, { maxLength: 60 }), async (asked) => {
        const log: string[] = [];
        const gone = new Set<string>();
        const coalescer = new Coalescer<string, string>({
          group: (input) => input.split(":")[3] ?? "",
          isRefusal: () => true,
          key: (input) => input.split(":")[0] ?? "",
          isGone: (input) => gone.has(input),
          async runAlone(input) {
            await settled();
            if (isOf("bad", input)) throw new Error(`refused ${input}`);
            log.push(input);
            return `${input}!`;
          },
          async run(inputs) {
            expect(new Set(inputs.map((input) => input.split(":")[3])).size).toBe(1);
            const [first = ""] = inputs;
            for (let turns = inputs.length % 4; turns > 0; turns--) await settled();
            if (inputs.length > 1 && inputs.some((input) => isOf("bad", input))) throw new Error("bad");
            if (isOf("bad", first)) throw new Error(`refused ${first}`);
            const done = inputs.filter((input) => !isOf("locked", input));
            log.push(...done);
            return inputs.map((input) => (isOf("locked", input) ? undefined : `${input}!`));
          },
        });
        const inputs: string[] = [];
        const answers: Promise<string>[] = [];
        for (const [at, { key, kind, group, leaver, pause }] of asked.entries()) {
          const input = `${key}:${at}:${kind}:${group}`;
          inputs.push(input);
          const answer = coalescer.add(input);
          leave(answer);
          answers.push(answer);
          if (pause) await settled();
          if (leaver !== undefined) gone.add(inputs[leaver % inputs.length] ?? "");
        }
        const ends = await Promise.allSettled(answers);
        for (const [at, end] of ends.entries()) {
          const input = inputs[at] ?? "";
          if (end.status === "rejected" && end.reason.code === "request_timeout") {
            expect(gone).toContain(input);
            expect(log).not.toContain(input);
          } else if (isOf("bad", input)) {
            expect(end).toMatchObject({ status: "rejected", reason: { message: `refused ${input}` } });
          } else expect(end).toEqual({ status: "fulfilled", value: `${input}!` });
        }
        expect(log).toHaveLength(new Set(log).size);
        for (const key of ["0", "1", "2", "3", "4", "5"]) {
          const done = log.filter((input) => input.startsWith(`${key}:`)).map((input) => Number(input.split(":")[1]));
          expect(done).toEqual([...done].sort((a, b) => a - b));
        }
      }),
      { numRuns: 300 },
    );
  });
});
