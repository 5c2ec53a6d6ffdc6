/** Clients that create, change, read and delete sessions and report of them, and keep a ledger of what they were promised. */

import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { Agent, request } from "undici";
import { historyViolations } from "../checker/history.ts";
import { readHistory } from "../checker/read.ts";

/** What a client knows of a session: what was acknowledged, and what it asked for last. */
interface Account {
  readonly id: string;
  version: number;
  /** The number in the context that was acknowledged last. */
  acknowledged: number;
  /** The number that was asked for last: it may or may not have become true. */
  asked: number;
  /** How many reported events were acknowledged. */
  reported: number;
  /** The deletion that was asked for; nothing else is asked of the session from then on. */
  deletion: { readonly hard: boolean; acknowledged: boolean } | undefined;
}

/** A request's end. */
export interface Outcome {
  readonly kind: "create" | "change" | "read" | "list" | "report" | "delete";
  /** Undefined: the connection broke. */
  readonly status: number | undefined;
  readonly retryAfter: string | undefined;
  readonly beganAt: number;
  readonly ms: number;
}

export interface Load {
  /** Where requests go; it may be changed while the clients run. */
  url: string;
  readonly outcomes: readonly Outcome[];
  /** Answers that contradict what was asked for or acknowledged. */
  readonly wrong: readonly string[];
  /** How many creates, changes and deletions were acknowledged. */
  acknowledged(): number;
  stop(): Promise<void>;
  /** Compares the database with what was acknowledged; gives what is amiss. */
  audit(databaseUrl: string): Promise<string[]>;
}

interface SessionBody {
  readonly id: string;
  readonly version: number;
  readonly context: { readonly n: number; readonly mark: string };
}

export interface LoadOptions {
  readonly url: string;
  readonly clients: number;
  /** After a broken connection or a refusal, a client waits so long before it asks again. */
  readonly restMs?: number;
  /** A client waits so long between its requests, on the average. */
  readonly pauseMs?: number;
  /** Every other deletion is for good, and leaves nothing but `session.purged`. */
  readonly purges?: boolean;
}

/** Whether a request was served. */
export function isServed({ status }: Outcome): boolean {
  return status === 200 || status === 201 || status === 204;
}

/** From each of these the others may be entered. */
const phases = ["running", "busy", "ready", "paused"] as const;

const reports = [
  { event_type: "thinking", payload: { iteration: 1, tools_used: ["read"] } },
  { event_type: "terminal", payload: { command: "make", output: "done", exit_code: 0 } },
  { event_type: "deployed", payload: { to: "somewhere" } },
] as const;

/** Starts the clients; they run until they are stopped. Each session is changed by one client alone. */
export function startLoad(options: LoadOptions): Load {
  return new RunningLoad(options);
}

class RunningLoad implements Load {
  url: string;
  readonly outcomes: Outcome[] = [];
  readonly wrong: string[] = [];
  readonly #accounts = new Map<string, Account>();
  readonly #agentId = randomUUID();
  readonly #restMs: number;
  readonly #pauseMs: number;
  readonly #purges: boolean;
  readonly #dispatcher = new Agent({ connections: 256, headersTimeout: 30_000 });
  readonly #clients: Promise<void>[];
  #acknowledged = 0;
  #stopping = false;

  constructor({ url, clients, restMs = 20, pauseMs = 0, purges = false }: LoadOptions) {
    this.url = url;
    this.#restMs = restMs;
    this.#pauseMs = pauseMs;
    this.#purges = purges;
    this.#clients = Array.from({ length: clients }, () => this.#client());
  }

  acknowledged(): number {
    return this.#acknowledged;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#clients);
    await this.#dispatcher.destroy();
  }

  async #client(): Promise<void> {
    const own: Account[] = [];
    for (let turn = 0; !this.#stopping; turn++) {
      const served = await this.#turn(turn, own);
      const ms = this.#pauseMs * 2 * Math.random() + (served ? 0 : this.#restMs);
      if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }

  async #turn(turn: number, own: Account[]): Promise<boolean> {
    const account = own[(turn * 7) % Math.max(own.length, 1)];
    if (account === undefined || turn % 10 === 0) return this.#create(own);
    if (turn % 10 === 5) return this.#list();
    if (turn % 10 === 7) return this.#report(account, turn);
    if (turn % 40 === 31) return this.#delete(account, own, this.#purges && turn % 80 === 31);
    if (turn % 3 === 0) return this.#read(account);
    return this.#change(account);
  }

  async #create(own: Account[]): Promise<boolean> {
    const mark = randomUUID();
    const body = await this.#ask("create", "POST", "/sessions/", { agent_id: this.#agentId, context: { n: 0, mark } });
    if (body === undefined) return false;
    const { id, version, context } = body as SessionBody;
    if (context.mark !== mark || version !== 1) this.wrong.push(`created ${mark}, answered ${JSON.stringify(body)}`);
    const account = { id, version, acknowledged: 0, asked: 0, reported: 0, deletion: undefined };
    own.push(account);
    this.#accounts.set(id, account);
    this.#acknowledged++;
    return true;
  }

  async #change(account: Account): Promise<boolean> {
    const n = ++account.asked;
    const change = { context: { n, mark: account.id }, phase: phases[n % phases.length] };
    const body = await this.#ask("change", "PATCH", `/sessions/${account.id}`, change);
    if (body === undefined) return false;
    const { id, version, context } = body as SessionBody;
    if (id !== account.id || context.n !== n || version <= account.version) {
      this.wrong.push(
        `changed ${account.id} to ${n} after version ${account.version}, answered ${JSON.stringify(body)}`,
      );
    }
    account.acknowledged = n;
    account.version = version;
    this.#acknowledged++;
    return true;
  }

  async #report(account: Account, turn: number): Promise<boolean> {
    const events = reports.slice(0, 1 + (turn % reports.length));
    const body = await this.#ask("report", "POST", `/sessions/${account.id}/events`, events);
    if (body === undefined) return false;
    const types = (body as { readonly event_type: string }[]).map(({ event_type: type }) => type);
    if (String(types) !== String(events.map(({ event_type: type }) => `session.${type}`))) {
      this.wrong.push(`reported ${events.length} events of ${account.id}, answered ${JSON.stringify(body)}`);
    }
    account.reported += events.length;
    return true;
  }

  /** Nothing else is asked of the session from now on: it may be gone, whatever the answer is. */
  async #delete(account: Account, own: Account[], hard: boolean): Promise<boolean> {
    own.splice(own.indexOf(account), 1);
    account.deletion = { hard, acknowledged: false };
    const path = `/sessions/${account.id}${hard ? "?hard=true" : ""}`;
    if ((await this.#ask("delete", "DELETE", path)) === undefined) return false;
    account.deletion.acknowledged = true;
    this.#acknowledged++;
    return true;
  }

  async #read(account: Account): Promise<boolean> {
    const body = await this.#ask("read", "GET", `/sessions/${account.id}`);
    if (body === undefined) return false;
    const { id, version, context } = body as SessionBody;
    if (id !== account.id || version < account.version || context.n < account.acknowledged) {
      this.wrong.push(`read ${account.id} at ${account.version}, answered ${JSON.stringify(body)}`);
    }
    return true;
  }

  async #list(): Promise<boolean> {
    const body = await this.#ask("list", "GET", `/sessions/?agent_id=${this.#agentId}&limit=5`);
    if (body === undefined) return false;
    const isPage = Array.isArray(body) && body.every((session) => session.agent_id === this.#agentId);
    if (!isPage) this.wrong.push(`listed ${this.#agentId}, answered ${JSON.stringify(body)}`);
    return true;
  }

  /** The parsed body of a 200 or 201, null for 204; undefined when it was none of these. */
  async #ask(kind: Outcome["kind"], method: string, path: string, body?: object): Promise<unknown> {
    const beganAt = performance.now();
    const done = (status?: number, retryAfter?: string) =>
      this.outcomes.push({ kind, status, retryAfter, beganAt, ms: performance.now() - beganAt });
    try {
      const answer = await request(`${this.url}${path}`, {
        method,
        dispatcher: this.#dispatcher,
        headers: body === undefined ? {} : { "content-type": "application/json" },
        body: body === undefined ? null : JSON.stringify(body),
      });
      const text = await answer.body.text();
      done(answer.statusCode, String(answer.headers["retry-after"] ?? ""));
      if (answer.statusCode === 204) return null;
      if (answer.statusCode === 200 || answer.statusCode === 201) return JSON.parse(text);
      if (answer.statusCode !== 503) this.wrong.push(`${method} ${path} answered ${answer.statusCode}: ${text}`);
    } catch {
      done();
    }
    return undefined;
  }

  async audit(databaseUrl: string): Promise<string[]> {
    const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
    try {
      const rows = await sql<Kept[]>`
        select s.id, version, (context ->> 'n')::int as n, deleted_at is not null as deleted, (
          select count(*)::int from events e where e.namespace = s.namespace and e.session_id = s.id
            and event_type not in ('session.created', 'session.updated', 'session.deleted', 'session.restored')
        ) as reported
        from sessions s`;
      const byId = new Map(rows.map((row) => [row.id, row]));
      const amiss = [...this.#accounts.values()].flatMap((account) => accountAmiss(account, byId.get(account.id)));
      return [...amiss, ...historyViolations(await readHistory(databaseUrl))];
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

/** What the database has of a session. */
interface Kept {
  readonly id: string;
  readonly version: number;
  readonly n: number;
  readonly deleted: boolean;
  readonly reported: number;
}

/** What the database has against what the client knows. */
function accountAmiss({ id, version, acknowledged, asked, reported, deletion }: Account, row?: Kept): string[] {
  if (row === undefined) return deletion?.hard === true ? [] : [`${id} was acknowledged, and is not there`];
  const amiss: string[] = [];
  if (row.version < version || row.n < acknowledged || row.n > asked) {
    amiss.push(`${id} was acknowledged at version ${version} with ${acknowledged}; it has ${row.version}, ${row.n}`);
  }
  if (row.deleted ? deletion === undefined : deletion?.acknowledged === true) {
    amiss.push(`${id} is deleted: ${row.deleted}; its deletion was ${JSON.stringify(deletion)}`);
  }
  if (deletion?.hard !== true && row.reported < reported) {
    amiss.push(`${id} has ${row.reported} reported events of the ${reported} that were acknowledged`);
  }
  return amiss;
}
