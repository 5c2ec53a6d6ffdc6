import { setTimeout as sleep } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, expect, it } from "vitest";
import { short } from "../support/faults.ts";
import { type PostgresServer, startPostgresServer } from "../support/postgres-server.ts";
import { dataFolder, type ServiceProcess, startServiceProcess } from "../support/process.ts";
import { agentId, send } from "../support/service.ts";
import { until } from "../support/until.ts";

/** Undone in reverse order, whatever became of the test. */
const undo: (() => unknown)[] = [];

afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const outageMs = short ? 8_000 : 60_000;
const leaseSeconds = short ? 4 : 30;

/** After a heartbeat that failed, too: longer than between two sweeps, so that those who are late need the grace. */
const beatMs = leaseSeconds * 400;

/** A worker that died is known to be dead so long after its lease, which counts as renewed after the outage. */
const slackSeconds = 3;

interface Worker {
  readonly sessionId: string;
  /** How many heartbeats were taken. */
  beats(): number;
  /** Answers that tell it that the session is not its own any more. */
  readonly refusals: readonly string[];
  /** It falls silent, as one that is killed. */
  die(): Promise<void>;
}

/** Claims a session, and sends heartbeats from then on. */
async function startWorker(url: string, name: string): Promise<Worker> {
  const claim = await send(`${url}/sessions/claim`, "POST", { worker_id: name, lease_seconds: leaseSeconds });
  if (claim.status !== 200) throw new Error(`not claimed: ${claim.status} ${claim.text}`);
  const { id, lease_token: token } = claim.body;
  const dying = new AbortController();
  const refusals: string[] = [];
  let beats = 0;
  const pause = (ms: number) => sleep(ms, undefined, { signal: dying.signal }).catch(() => {});
  const live = async () => {
    while (!dying.signal.aborted) {
      const answer = await send(`${url}/sessions/${id}/heartbeat`, "POST", undefined, {
        "lease-token": String(token),
      }).catch(() => undefined);
      if (answer?.status === 200) beats++;
      if (answer !== undefined && answer.status >= 400 && answer.status < 500) refusals.push(answer.text);
      await pause(beatMs);
    }
  };
  const life = live();
  const die = async () => {
    dying.abort();
    await life;
  };
  undo.push(die);
  return { sessionId: id, beats: () => beats, refusals, die };
}

interface Scene {
  readonly database: PostgresServer;
  readonly services: readonly ServiceProcess[];
}

/** What is away, and how it comes back. */
const outages: Readonly<Record<string, (scene: Scene) => { begin(): unknown; end(): unknown }>> = {
  "PostgreSQL frozen": ({ database }) => ({ begin: database.freeze, end: database.thaw }),
  "PostgreSQL stopped": ({ database }) => ({ begin: () => database.stop("fast"), end: database.start }),
  "PostgreSQL crashed": ({ database }) => ({ begin: () => database.stop("immediate"), end: database.start }),
  "Every replica frozen": ({ services }) => ({
    begin: () => services.map((service) => service.kill("SIGSTOP")),
    end: () => services.map((service) => service.kill("SIGCONT")),
  }),
  "The table locked, as while an index is built": ({ database }) => {
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    undo.push(() => sql.end({ timeout: 1 }));
    return {
      begin: () => sql.unsafe("begin; lock table sessions in share mode"),
      end: () => sql.unsafe("commit"),
    };
  },
};

/** The one in which sweeps fail and must not pass for ones that were done. */
const inShort = ["The table locked, as while an index is built"];

it.each(Object.entries(outages).filter(([name]) => !short || inShort.includes(name)))(
  `%s for ${outageMs / 1_000} s under leases of ${leaseSeconds} s: nobody who lives is called crashed, and who died meanwhile is`,
  async (_, outageOf) => {
    const database = await startPostgresServer();
    undo.push(() => database[Symbol.asyncDispose]());
    const services = await Promise.all(
      ["a", "b"].map(async () => {
        const folder = dataFolder();
        undo.push(() => folder[Symbol.dispose]());
        // Also a sweep that fails is soon followed by the next: it must not pass for one that was done.
        const settings = { DATABASE_URL: database.url, DATA_DIR: folder.path, SWEEP_INTERVAL_MS: "300" };
        return startServiceProcess({ settings });
      }),
    );
    for (const service of services) undo.push(() => service.stop());
    const outage = outageOf({ database, services });

    const [first] = services;
    for (let number = 0; number < 24; number++) {
      const created = await send(`${first?.url}/sessions/`, "POST", { agent_id: agentId, phase: "pending" });
      expect(created.status).toBe(201);
    }
    const start = (count: number, kind: string) =>
      Promise.all(Array.from({ length: count }, (_, at) => startWorker(services[at % 2]?.url ?? "", `${kind}-${at}`)));
    const living = await start(20, "living");
    const mortal = await start(4, "mortal");
    const allBeat = (times: number, withinMs: number) => {
      const before = living.map(({ beats }) => beats());
      return until(() => living.every(({ beats }, at) => beats() >= (before[at] ?? 0) + times), "heartbeats of all", {
        withinMs,
      });
    };
    await allBeat(2, leaseSeconds * 2_000);

    await outage.begin();
    // Whoever is frozen answers nobody; nobody waits for that.
    const deaths = mortal.map(({ die }) => die());
    const over = performance.now() + outageMs;
    await until(() => performance.now() > over, "the outage to be over", { withinMs: outageMs + 1_000, everyMs: 50 });
    await outage.end();
    const endedAt = new Date();
    await Promise.all(deaths);

    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    undo.push(() => sql.end({ timeout: 1 }));
    const isAllOver = async () => {
      const [row] = await sql`
        select count(*)::int as live from sessions
        where id = any(${mortal.map(({ sessionId }) => sessionId)}) and phase = 'running'`;
      return row?.["live"] === 0;
    };
    await until(isAllOver, "the dead to be known", {
      withinMs: (leaseSeconds + slackSeconds + 5) * 1_000,
      everyMs: 50,
    });
    // Past the time in which anybody who was not renewed would be called crashed.
    await allBeat(3, leaseSeconds * 3_000);

    const sessions = await sql<{ id: string; phase: string; reason: string | null; events: number; seconds: number }[]>`
      select id, phase, status_reason as reason, last_sequence as events,
        extract(epoch from ended_at - ${endedAt.toISOString()}::text::timestamptz)::float8 as seconds
      from sessions`;
    const byId = new Map(sessions.map((session) => [session.id, session]));
    for (const { sessionId, refusals } of living) {
      expect(refusals).toEqual([]);
      expect(byId.get(sessionId)).toMatchObject({ phase: "running", events: 2 });
    }
    for (const { sessionId } of mortal) {
      const session = byId.get(sessionId);
      expect(session).toMatchObject({ phase: "crashed", reason: "lease_expired", events: 3 });
      expect(session?.seconds, "seconds from the end of the outage").toBeLessThan(leaseSeconds + slackSeconds);
    }
  },
);
