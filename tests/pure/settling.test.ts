import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EventRow } from "../../src/events/row.ts";
import { Settling } from "../../src/events/settling.ts";

/** Transactions that draw positions and end in any order, and a relay that looks at them now and then. */
class World {
  readonly settling = new Settling(0, "{}");
  now = 0;
  #next = 1;
  readonly #open = new Map<number, number[]>();
  /** Which event stands at which position. */
  readonly visible = new Map<number, string>();
  readonly committed = new Set<string>();

  draw(writer: number): void {
    const drawn = this.#open.get(writer) ?? [];
    this.#open.set(writer, [...drawn, this.#next++]);
  }

  end(writer: number, commits: boolean): void {
    for (const position of this.#open.get(writer) ?? []) {
      if (!commits) continue;
      this.visible.set(position, `event ${position}`);
      this.committed.add(`event ${position}`);
    }
    this.#open.delete(writer);
  }

  endAll(): void {
    for (const writer of [...this.#open.keys()]) this.end(writer, true);
  }

  /** One turn of the relay, as relay.ts makes it. */
  turn(limit: number): void {
    const { settling } = this;
    const isPending = pendingOf(settling);
    const late = [...this.visible.keys()].filter(isPending);
    if (late.length > 0) {
      for (const position of late.sort((a, b) => a - b)) {
        this.visible.set(this.#next++, this.visible.get(position) ?? "");
        this.visible.delete(position);
      }
      return;
    }
    const read = [...this.visible.keys()]
      .filter((position) => position > settling.settled && !isPending(position))
      .sort((a, b) => a - b)
      .slice(0, limit);
    settling.forget();
    settling.accept(
      read.map((position) => ({ position }) as EventRow),
      this.now,
    );
    if (settling.needsWriters) settling.observe(new Set([...this.#open.keys()].map(String)));
  }
}

function pendingOf(settling: Settling): (position: number) => boolean {
  const ranges = [...settling.pending.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) => [Number(from), Number(to)]);
  return (position) => ranges.some(([from = 0, to = 0]) => from <= position && position < to);
}

/** Someone who reads on from the last position that it saw. */
class Follower {
  #position = 0;
  readonly seen: string[] = [];

  read(world: World): void {
    const isPending = pendingOf(world.settling);
    const there = [...world.visible]
      .filter(([at]) => at > this.#position && at <= world.settling.settled && !isPending(at))
      .sort(([a], [b]) => a - b);
    for (const [at, event] of there) {
      this.seen.push(event);
      this.#position = at;
    }
  }
}

const step = fc.oneof(
  fc.record({ do: fc.constant("draw" as const), writer: fc.nat(4) }),
  fc.record({ do: fc.constant("commit" as const), writer: fc.nat(4) }),
  fc.record({ do: fc.constant("roll back" as const), writer: fc.nat(4) }),
  fc.record({ do: fc.constant("turn" as const), ms: fc.nat(400), limit: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ do: fc.constant("read" as const) }),
);

function play(steps: readonly (typeof step extends fc.Arbitrary<infer Step> ? Step : never)[]): {
  readonly world: World;
  readonly follower: Follower;
} {
  const world = new World();
  const follower = new Follower();
  for (const one of steps) {
    if (one.do === "draw") world.draw(one.writer);
    else if (one.do === "commit") world.end(one.writer, true);
    else if (one.do === "roll back") world.end(one.writer, false);
    else if (one.do === "read") follower.read(world);
    else {
      world.now += one.ms;
      world.turn(one.limit);
    }
  }
  return { world, follower };
}

function events(...positions: number[]): EventRow[] {
  return positions.map((position) => ({ position }) as EventRow);
}

describe("settling", () => {
  it("gives a follower every committed event, once, and no other, whatever the transactions do", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const { world, follower } = play(steps);
        world.endAll();
        for (let turn = 0; turn < 40; turn++) {
          world.now += 300;
          world.turn(5);
        }
        follower.read(world);
        expect([...follower.seen].sort()).toEqual([...world.committed].sort());
        expect(world.settling.pending).toBe("{}");
      }),
      { numRuns: 3_000 },
    );
  });

  it("never waits for a transaction longer than its patience: what others committed is settled", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const { world, follower } = play(steps);
        world.draw(9);
        world.draw(8);
        world.end(8, true);
        // Writer 9 stays open; so may others of before.
        const committed = new Set(world.committed);
        for (let turn = 0; turn < 60; turn++) {
          world.now += 300;
          world.turn(5);
        }
        follower.read(world);
        expect([...committed].filter((event) => !follower.seen.includes(event))).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });

  it("settles what follows without a gap at once", () => {
    const settling = new Settling(0, "{}");
    expect(settling.accept(events(1, 2, 3), 0)).toHaveLength(3);
    expect(settling.needsWriters).toBe(false);
  });

  it("holds what stands behind a gap until its writers have ended and one more look was taken", () => {
    const settling = new Settling(0, "{}");
    expect(settling.accept(events(1, 3), 0)).toHaveLength(1);
    settling.observe(new Set(["a"]));
    expect(settling.accept(events(3), 1)).toEqual([]);
    settling.observe(new Set(["b"]));
    expect(settling.accept(events(3), 2)).toHaveLength(1);
    expect(settling.pending).toBe("{}");
  });

  it("writes a gap down before it leaves it behind", () => {
    const settling = new Settling(0, "{}");
    settling.accept(events(2), 0);
    settling.observe(new Set(["a"]));
    expect(settling.accept(events(2), 10_000)).toEqual([]);
    expect(settling.pending).toBe("{[1,2)}");
    expect(settling.accept(events(2), 10_001)).toHaveLength(1);
    expect(new Settling(2, settling.pending).pending).toBe("{[1,2)}");
  });
});
