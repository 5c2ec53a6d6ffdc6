/** A client that sends its requests down one connection without waiting for answers: they arrive in that order. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface PipelinedAnswer {
  readonly status: number;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked into by the tests that know their shape
  readonly body: any;
}

export class PipelinedClient {
  readonly #socket: Socket;
  readonly #waiting: ((answer: PipelinedAnswer) => void)[] = [];
  #received = Buffer.alloc(0);

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      while (this.#takeAnswer()) {}
    });
  }

  static async connect(url: string): Promise<PipelinedClient> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, "connect");
    return new PipelinedClient(socket);
  }

  /** @param body sent as JSON */
  send(method: string, path: string, body: unknown, requestId: string): Promise<PipelinedAnswer> {
    const text = JSON.stringify(body);
    this.#socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Request-Id: ${requestId}\r\n` +
        `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
    );
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    this.#socket.destroy();
  }

  #takeAnswer(): boolean {
    const headEnd = this.#received.indexOf("\r\n\r\n");
    if (headEnd < 0) return false;
    const head = this.#received.subarray(0, headEnd).toString();
    const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
    const end = headEnd + 4 + length;
    if (this.#received.length < end) return false;
    const text = this.#received.subarray(headEnd + 4, end).toString();
    this.#received = this.#received.subarray(end);
    this.#waiting.shift()?.({ status: Number(head.split(" ")[1]), text, body: JSON.parse(text) });
    return true;
  }
}
