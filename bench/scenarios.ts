/**
 * What is asked of the service and of the control: one table, from which the load is made for either loader.
 *
 * In a path or body `{id}` stands for one of the ids that the load is given, and `{number}` for one of nine digits that
 * no other request of a run has. Both are always as long, so a request's length is known before it is sent.
 */

interface Request {
  readonly method: "GET" | "POST" | "PATCH";
  readonly path: string;
  readonly body?: string;
  /** Of the body; undefined: application/json. */
  readonly type?: string;
  /** Of ten requests of a mix, how many are of this kind; undefined: all. */
  readonly ofTen?: number;
}

interface Scenario {
  /** For the table. */
  readonly title: string;
  /**
   * Which ids it needs. `creators`: of agents that nobody lists, so that what was created does not change what a list
   * reads. `large`: of sessions with contexts of 100 KB, which nothing else reads.
   */
  readonly ids: "sessions" | "agents" | "creators" | "large";
  /**
   * `mixed`: any of the requests with any id. `turns`: the first request with each of the ids, one after the other, then
   * the second with each of them: so that each changes what the one before it left.
   */
  readonly order: "mixed" | "turns";
  readonly requests: readonly Request[];
  /** What the control does for it, in a statement; the answers have the same fields. */
  readonly control: string;
  /** Whether it leaves dead rows behind, or rows that others would read. */
  readonly litters: boolean;
}

/** What a session of the load has beside its agent: a context of 600 bytes. */
export const sessionFields = {
  session_type: "development",
  runtime_backend: "local",
  context: { text: "lorem ipsum dolor sit amet ".repeat(22) },
};

const get: Request = { method: "GET", path: "/sessions/{id}" };
const create: Request = {
  method: "POST",
  path: "/sessions/",
  body: JSON.stringify({ agent_id: "{id}", ...sessionFields }),
};
const checkpoint = `{"step":1,"salt":{number},"text":"${"checkpoint of some work ".repeat(11)}"}`;
const patch: Request = { method: "PATCH", path: "/sessions/{id}", body: `{"checkpoint":${checkpoint}}` };
const patchOfStatus = (phase: string): Request => ({
  method: "PATCH",
  path: "/sessions/{id}",
  body: JSON.stringify({ phase }),
});
const heartbeat: Request = { method: "POST", path: "/sessions/{id}/heartbeat" };

const table = {
  get: {
    title: "get",
    ids: "sessions",
    order: "mixed",
    requests: [get],
    control: "select",
    litters: false,
  },
  list: {
    title: "list of 10 by agent",
    ids: "agents",
    order: "mixed",
    requests: [{ method: "GET", path: "/sessions/?agent_id={id}&limit=10" }],
    control: "select … order by … limit",
    litters: false,
  },
  heartbeat: {
    title: "heartbeat",
    ids: "sessions",
    order: "mixed",
    requests: [heartbeat],
    control: "update of last_activity_at and lease_expires_at",
    litters: true,
  },
  patch: {
    title: "patch of a checkpoint",
    ids: "sessions",
    order: "mixed",
    requests: [patch],
    control: "update of checkpoint, updated_at, version",
    litters: true,
  },
  status: {
    title: "patch of the status",
    ids: "sessions",
    order: "turns",
    requests: ["paused", "running"].map(patchOfStatus),
    control: "update of phase, updated_at, version",
    litters: true,
  },
  context: {
    title: "replace a 100 KB context",
    ids: "large",
    order: "mixed",
    requests: [{ method: "PATCH", path: "/sessions/{id}", body: `{"context":${largeContext()}}` }],
    control: "update of context, updated_at, version",
    litters: true,
  },
  merge: {
    title: "merge a key into a 100 KB context",
    ids: "large",
    order: "mixed",
    requests: [
      {
        method: "PATCH",
        path: "/sessions/{id}/context",
        type: "application/merge-patch+json",
        body: '{"progress":{number}}',
      },
    ],
    control: "update of context by ||, updated_at, version",
    litters: true,
  },
  events: {
    title: "post an event",
    ids: "sessions",
    order: "mixed",
    requests: [
      {
        method: "POST",
        path: "/sessions/{id}/events",
        body: '{"event_type":"thinking","payload":{"iteration":{number},"tools_used":["read_file","bash"]}}',
      },
    ],
    control: "insert into events, no row locked",
    litters: true,
  },
  create: {
    title: "create",
    ids: "creators",
    order: "mixed",
    requests: [create],
    control: "insert",
    litters: true,
  },
  mix: {
    title: "mix: 6 heartbeats and patches, 3 gets, 1 create",
    ids: "sessions",
    order: "mixed",
    requests: [
      { ...heartbeat, ofTen: 3 },
      { ...patch, ofTen: 3 },
      { ...get, ofTen: 3 },
      { ...create, ofTen: 1 },
    ],
    control: "each as above",
    litters: true,
  },
} satisfies Readonly<Record<string, Scenario>>;

export const scenarios: Readonly<Record<keyof typeof table, Scenario>> = table;

/** Messages of words by chance, the same each time: neither all alike nor noise to the compression of the database. */
export function largeContext(): string {
  let state = 1;
  const chance = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
  const word = () => Array.from({ length: 2 + chance(8) }, () => String.fromCharCode(97 + chance(26))).join("");
  const words = Array.from({ length: 600 }, word);
  const messages: string[] = [];
  for (let bytes = 0; bytes < 100_000; bytes += messages.at(-1)?.length ?? 0) {
    const content = Array.from({ length: 60 }, () => words[chance(words.length)]).join(" ");
    messages.push(JSON.stringify({ role: chance(2) === 0 ? "user" : "assistant", tokens: chance(9_000), content }));
  }
  return `{"salt":{number},"messages":[${messages.join(",")}]}`;
}
