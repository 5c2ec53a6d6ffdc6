import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EventRow } from "../../src/events/row.ts";
import { Settling } from "../../src/events/settling.ts";

interface Told {
  readonly session: number;
  readonly sequence: number;
}

/** Transactions that lock sessions, draw positions and end in any order, and a relay that looks at them now and then. */
class World {
  readonly settling = new Settling(0, "{}");
  now = 0;
  #next = 1;
  /** What each open transaction has drawn. */
  readonly #open = new Map<number, Map<number, Told>>();
  readonly #lockedBy = new Map<number, number>();
  readonly #sequences = new Map<number, number>();
  /** What stands at which position. */
  readonly visible = new Map<number, Told>();
  readonly committed = new Set<string>();

  /** Locks a session's row, if nobody else has. */
  lock(writer: number, session: number): boolean {
    const holder = this.#lockedBy.get(session);
    if (holder !== undefined && holder !== writer) return false;
    this.#lockedBy.set(session, writer);
    return true;
  }

  draw(writer: number, session: number): void {
    if (!this.lock(writer, session)) return;
    const drawn = this.#open.get(writer) ?? new Map<number, Told>();
    const before = [...drawn.values()].filter((told) => told.session === session).length;
    drawn.set(this.#next++, { session, sequence: (this.#sequences.get(session) ?? 0) + before + 1 });
    this.#open.set(writer, drawn);
  }

  end(writer: number, commits: boolean): void {
    for (const [position, told] of this.#open.get(writer) ?? []) {
      if (!commits) continue;
      this.visible.set(position, told);
      this.#sequences.set(told.session, told.sequence);
      this.committed.add(nameOf(told));
    }
    this.#open.delete(writer);
    for (const [session, holder] of this.#lockedBy) if (holder === writer) this.#lockedBy.delete(session);
  }

  endAll(): void {
    for (const writer of new Set([...this.#open.keys(), ...this.#lockedBy.values()])) this.end(writer, true);
  }

  /** One step of the relay, as turn.ts makes it. */
  turn(limit: number): void {
    const { settling } = this;
    const isPending = pendingOf(settling);
    const inOrder = [...this.visible].sort(([a], [b]) => a - b);
    const read = inOrder.filter(([at]) => at > settling.settled && !isPending(at)).slice(0, limit);
    if (settling.hasPending) {
      const late = new Set(inOrder.filter(([at]) => isPending(at)).map(([, { session }]) => session));
      if (late.size === 0) settling.forget();
      const free = [...late].filter((session) => !this.#lockedBy.has(session));
      if (free.length > 0) {
        this.#letIn(free, isPending);
        return;
      }
      const behind = read.filter(([, { session }]) => late.has(session)).map(([at]) => at);
      settling.postpone(behind);
      if (behind.length > 0) return;
    }
    settling.accept(
      read.map(([position]) => ({ position }) as EventRow),
      this.now,
    );
    if (settling.needsWriters) settling.observe(new Set([...this.#open.keys()].map(String)), this.now);
  }

  #letIn(sessions: readonly number[], isPending: (position: number) => boolean): void {
    const moved = [...this.visible]
      .filter(([at, { session }]) => sessions.includes(session) && (isPending(at) || at > this.settling.settled))
      .sort(([, a], [, b]) => a.session - b.session || a.sequence - b.sequence);
    for (const [at, told] of moved) {
      this.visible.delete(at);
      this.visible.set(this.#next++, told);
    }
  }
}

function nameOf({ session, sequence }: Told): string {
  return `${session}/${sequence}`;
}

function pendingOf(settling: Settling): (position: number) => boolean {
  const ranges = [...settling.pending.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) => [Number(from), Number(to)]);
  return (position) => ranges.some(([from = 0, to = 0]) => from <= position && position < to);
}

/** Someone who reads on from the last position that it saw. */
class Follower {
  #position = 0;
  readonly #sequences = new Map<number, number>();
  readonly seen: string[] = [];

  read(world: World): void {
    const isPending = pendingOf(world.settling);
    const there = [...world.visible]
      .filter(([at]) => at > this.#position && at <= world.settling.settled && !isPending(at))
      .sort(([a], [b]) => a - b);
    for (const [at, told] of there) {
      this.seen.push(nameOf(told));
      const before = this.#sequences.get(told.session) ?? 0;
      expect(told.sequence, `the next event of session ${told.session}`).toBe(before + 1);
      this.#sequences.set(told.session, told.sequence);
      this.#position = at;
    }
  }
}

const step = fc.oneof(
  fc.record({ do: fc.constant("draw" as const), writer: fc.nat(4), session: fc.nat(3) }),
  fc.record({ do: fc.constant("lock" as const), writer: fc.nat(4), session: fc.nat(3) }),
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
    if (one.do === "draw") world.draw(one.writer, one.session);
    else if (one.do === "lock") world.lock(one.writer, one.session);
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
  it("gives a follower every committed event, once, in order for each session, and no other, whatever the transactions do", () => {
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
        world.draw(9, 9);
        world.draw(8, 8);
        world.end(8, true);
        // Writer 9 stays open; so may others of before, and hold the sessions that they have locked.
        const committed = new Set([...world.committed].filter((name) => name.startsWith("8/")));
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
    settling.observe(new Set(["a"]), 0);
    expect(settling.accept(events(2), 499)).toEqual([]);
    expect(settling.pending).toBe("{}");
    expect(settling.accept(events(2), 10_000)).toEqual([]);
    expect(settling.pending).toBe("{[1,2)}");
    expect(settling.accept(events(2), 10_001)).toHaveLength(1);
    expect(new Settling(2, settling.pending).pending).toBe("{[1,2)}");
  });

  it("waits once for a writer that stays open, however many gaps it leaves", () => {
    const settling = new Settling(0, "{}");
    settling.accept(events(2), 0);
    settling.observe(new Set(["a"]), 0);
    settling.accept(events(2), 600);
    for (let position = 2; position < 40; position += 2) {
      settling.accept(events(position), 600);
      settling.accept(events(position), 600);
      settling.observe(new Set(["a"]), 600);
      settling.accept(events(position), 600);
      expect(settling.accept(events(position, position + 2), 600).length).toBeLessThanOrEqual(1);
    }
    expect(settling.settled).toBeGreaterThanOrEqual(36);
  });

  it("makes one of the gaps that are neighbours", () => {
    const settling = new Settling(5, "{[3,4)}");
    settling.postpone([4, 5, 9]);
    expect(settling.pending).toBe("{[3,6),[9,10)}");
  });
});
