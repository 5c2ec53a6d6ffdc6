/** Clients that create, change and read sessions, and keep a ledger of what they were promised. */

import { randomUUID } from "node:crypto";
import postgres from "postgres";
import { Agent, request } from "undici";

/** What a client knows of a session: what was acknowledged, and what it asked for last. */
interface Account {
  readonly id: string;
  version: number;
  /** The number in the context that was acknowledged last. */
  acknowledged: number;
  /** The number that was asked for last: it may or may not have become true. */
  asked: number;
}

/** A request's end. */
export interface Outcome {
  readonly kind: "create" | "change" | "read" | "list";
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
  /** How many creates and changes were acknowledged. */
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
}

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
  readonly #dispatcher = new Agent({ connections: 256, headersTimeout: 30_000 });
  readonly #clients: Promise<void>[];
  #acknowledged = 0;
  #stopping = false;

  constructor({ url, clients, restMs = 20 }: LoadOptions) {
    this.url = url;
    this.#restMs = restMs;
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
      const account = own[(turn * 7) % Math.max(own.length, 1)];
      let served: boolean;
      if (account === undefined || turn % 10 === 0) served = await this.#create(own);
      else if (turn % 10 === 5) served = await this.#list();
      else if (turn % 3 === 0) served = await this.#read(account);
      else served = await this.#change(account);
      if (!served) await new Promise((resolve) => setTimeout(resolve, this.#restMs));
    }
  }

  async #create(own: Account[]): Promise<boolean> {
    const mark = randomUUID();
    const body = await this.#ask("create", "POST", "/sessions/", { agent_id: this.#agentId, context: { n: 0, mark } });
    if (body === undefined) return false;
    const { id, version, context } = body as SessionBody;
    if (context.mark !== mark || version !== 1) this.wrong.push(`created ${mark}, answered ${JSON.stringify(body)}`);
    const account = { id, version, acknowledged: 0, asked: 0 };
    own.push(account);
    this.#accounts.set(id, account);
    this.#acknowledged++;
    return true;
  }

  async #change(account: Account): Promise<boolean> {
    const n = ++account.asked;
    const body = await this.#ask("change", "PATCH", `/sessions/${account.id}`, { context: { n, mark: account.id } });
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

  /** The parsed body of a 200 or 201; undefined when there was none. */
  async #ask(kind: Outcome["kind"], method: string, path: string, body?: object): Promise<unknown> {
    const beganAt = performance.now();
    const done = (status?: number, retryAfter?: string) =>
      this.outcomes.push({ kind, status, retryAfter, beganAt, ms: performance.now() - beganAt });
    try {
      const answer = await request(`${this.url}${path}`, {
        method,
        dispatcher: this.#dispatcher,
        headers: { "content-type": "application/json" },
        body: body === undefined ? null : JSON.stringify(body),
      });
      const text = await answer.body.text();
      done(answer.statusCode, String(answer.headers["retry-after"] ?? ""));
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
      const amiss = (await eventsAmiss(sql)).map((id) => `the events of ${id} are not 1 to its version`);
      const rows = await sql<{ id: string; version: number; n: number }[]>`
        select id, version, (context ->> 'n')::int as n from sessions`;
      const byId = new Map(rows.map((row) => [row.id, row]));
      for (const { id, version, acknowledged, asked } of this.#accounts.values()) {
        const row = byId.get(id);
        if (row === undefined) amiss.push(`${id} was acknowledged, and is not there`);
        else if (row.version < version || row.n < acknowledged || row.n > asked) {
          amiss.push(
            `${id} was acknowledged at version ${version} with ${acknowledged}; it has ${row.version}, ${row.n}`,
          );
        }
      }
      return amiss;
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

/** The sessions whose events are not exactly 1, 2, … up to the row's version, and events without a session. */
async function eventsAmiss(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql<{ id: string }[]>`
    with told as (
      select session_id, count(*) as number, min(sequence) as first, max(sequence) as last, max(session_version) as version
      from events group by session_id
    )
    select coalesce(s.id, t.session_id) as id
    from sessions s full join told t on t.session_id = s.id
    where s.id is null or t.session_id is null
      or t.first <> 1 or t.last <> t.number or t.last <> s.last_sequence or t.version <> s.version`;
  return rows.map((row) => row.id);
}
