/**
 * The socket under the app: bound before anything else is started, so that a taken port is told at once; polite to slow
 * and broken clients; and drained in the order that loses no request behind a load balancer.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { errors } from "../errors.ts";
import type { ServiceError } from "../service-error.ts";
import { portHolder } from "./port-holder.ts";
import { problemText, problemType } from "./problem.ts";
import { requestId } from "./request-context.ts";

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

export interface HttpServer {
  /** Where it listens, e.g. `http://127.0.0.1:8011`. */
  readonly url: string;
  readonly port: number;
  /** From now on requests go to this handler; until then they are told that the service is starting. */
  serve(handler: Handler): void;
  /** Stops listening, waits for what still answers, at most so long, and cuts the rest. */
  drain(withinMs: number): Promise<void>;
}

/** The port can't be listened on; the message says who has it, if that can be seen. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

const limits = {
  /** All headers; Node's default, named in the problem. */
  maxHeaderSize: 16 * 1024,
  /** What waits of a connection, either way, before it is held up; 64 KiB by default from Node.js 22 on. */
  highWaterMark: 16 * 1024,
  headersTimeout: 10_000,
  /** The whole request, body included. */
  requestTimeout: 30_000,
  /** How often the two above are looked at: by default a trickled body stays open for 30 s more. */
  connectionsCheckingInterval: 1_000,
  /** Longer than the idle time of common load balancers (60 s), so that they, not we, close first. */
  keepAliveTimeout: 65_000,
};

/**
 * Binds the address.
 *
 * @throws {ListenError} when the port is taken or may not be used
 */
export async function listen(host: string, port: number, timeouts: Partial<typeof limits> = {}): Promise<HttpServer> {
  let handler: Handler = tellStarting;
  const server = createServer({ ...limits, ...timeouts }, (request, response) => handler(request, response));
  server.on("clientError", answerClientError);
  await bind(server, host, port);
  const address = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`,
    port: address.port,
    serve(next) {
      handler = next;
    },
    async drain(withinMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const sweep = setInterval(() => server.closeIdleConnections(), 20);
      // The rest of the wait must not keep a process alive that has nothing left to do.
      await Promise.race([closed, sleep(withinMs, undefined, { ref: false })]);
      clearInterval(sweep);
      server.closeAllConnections();
      await closed;
    },
  };
}

async function bind(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  }).catch((error: NodeJS.ErrnoException) => {
    const where = `${host}:${port}`;
    if (error.code === "EADDRINUSE") {
      const holder = portHolder(port);
      throw new ListenError(
        `${where} is taken${holder === undefined ? "" : ` by ${holder}`}. Stop it, or choose another port: PORT=${port + 1} npm start`,
      );
    }
    if (error.code === "EACCES")
      throw new ListenError(`${where} may not be used by this user; ports below 1024 are kept for root.`);
    throw new ListenError(`Can't listen on ${where}: ${error.message}. Set HOST to an address of this machine.`);
  });
}

function tellStarting(request: IncomingMessage, response: ServerResponse): void {
  const problem = errors.starting();
  const path = request.url ?? "/";
  const id = requestId(request.headers);
  response.setHeader("x-request-id", id);
  if (path.startsWith("/health/live")) {
    response.writeHead(200, { "content-type": "application/json" });
    response.end('{"status":"ok","database":"down","redis":"down"}');
    return;
  }
  response.writeHead(problem.status, { ...problem.headers, "content-type": problemType });
  response.end(problemText(problem, { path, requestId: id }));
}

/** Requests that never became one: what Node's parser refuses, and what did not arrive in time. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable || socket.bytesWritten > 0) {
    socket.destroy();
    return;
  }
  const problem = clientProblem(error.code);
  const id = requestId({});
  const body = problemText(problem, { path: "/", requestId: id });
  socket.end(
    `HTTP/1.1 ${problem.status} ${problem.title}\r\nContent-Type: ${problemType}\r\nConnection: close\r\n` +
      `X-Request-Id: ${id}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function clientProblem(code: string | undefined): ServiceError {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return errors.requestTimeout();
    case "HPE_HEADER_OVERFLOW":
      return errors.headersTooLarge();
    default:
      return errors.malformedRequest("The request is not HTTP/1.1 as it should be.");
  }
}
