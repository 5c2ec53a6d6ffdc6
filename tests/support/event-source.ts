/** A client of event streams that sees every byte: comments, `retry:` lines, what was cut, and when it stops reading. */

import { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { until } from "./until.ts";

export interface StreamedEvent {
  readonly id: string | undefined;
  readonly event: string | undefined;
  /** The text as it came; parsed by `told`. */
  readonly data: string;
}

export interface EventStream extends AsyncDisposable {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Everything that came whole, oldest first. */
  readonly events: readonly StreamedEvent[];
  readonly comments: readonly string[];
  /** The values of the `retry:` lines. */
  readonly retries: readonly number[];
  /** All that was not an event stream: the body of a problem. */
  text(): string;
  /** How it ended; undefined while it is open. */
  ended(): "whole" | "broken" | undefined;
  /** The id to resume from: that of the last whole event. */
  lastEventId(): string | undefined;
  /** Stops reading, and goes on. */
  pause(): void;
  resume(): void;
  /** Leaves, in the midst of it if need be. */
  cut(): void;
  /** Waits until so many events have come. */
  count(count: number, withinMs?: number): Promise<readonly StreamedEvent[]>;
}

export interface Told {
  readonly event_id: string;
  readonly event_type: string;
  readonly aggregate_id: string;
  readonly sequence: number;
  readonly position: string;
  readonly created_at: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

export function told({ data }: StreamedEvent): Told {
  return JSON.parse(data);
}

export interface StreamRequest {
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
  /** Called with each event as it comes. */
  readonly onEvent?: (event: StreamedEvent) => void;
}

/** Opens a stream, and comes back once its head is there. */
export async function openStream(url: string, options: StreamRequest = {}): Promise<EventStream> {
  const { headers = {}, method = "GET", onEvent } = options;
  const events: StreamedEvent[] = [];
  const comments: string[] = [];
  const retries: number[] = [];
  let rest = "";
  let whole = "";
  let lastEventId: string | undefined;
  let ended: "whole" | "broken" | undefined;
  const take = (block: string) => {
    let id: string | undefined;
    let event: string | undefined;
    const data: string[] = [];
    for (const line of block.split("\n")) {
      const [, name = "", value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (name === "") comments.push(value);
      else if (name === "retry") retries.push(Number(value));
      else if (name === "id") id = value;
      else if (name === "event") event = value;
      else if (name === "data") data.push(value);
      else throw new Error(`no line of an event stream: ${line}`);
    }
    if (id !== undefined) lastEventId = id;
    if (data.length === 0) return;
    const streamed = { id, event, data: data.join("\n") };
    events.push(streamed);
    onEvent?.(streamed);
  };
  const [outgoing, response] = await new Promise<[ClientRequest, IncomingMessage]>((resolve, reject) => {
    const sent = request(url, { method, headers, agent: false }, (incoming) => resolve([sent, incoming]));
    sent.on("error", reject);
    sent.end();
  });
  const isStream = /^text\/event-stream/.test(response.headers["content-type"] ?? "");
  response.setEncoding("utf8");
  response.on("data", (chunk: string) => {
    if (!isStream) {
      whole += chunk;
      return;
    }
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) take(block);
  });
  response.on("error", () => {});
  response.on("close", () => {
    ended = response.complete ? "whole" : "broken";
  });
  const cut = () => outgoing.destroy();
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    events,
    comments,
    retries,
    text: () => whole,
    ended: () => ended,
    lastEventId: () => lastEventId,
    pause: () => response.pause(),
    resume: () => response.resume(),
    cut,
    async count(count, withinMs = 10_000) {
      await until(() => events.length >= count, `${count} events`, { withinMs, everyMs: 2 });
      return events;
    },
    async [Symbol.asyncDispose]() {
      cut();
    },
  };
}
