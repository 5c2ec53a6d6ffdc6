/** A look into a running service, through its inspector: how it spends its time, and what it keeps in memory. */

import { once } from "node:events";
import { WebSocket } from "undici";

/** Settings that make a service listen for an inspector, on a port of its own. It costs nothing until one connects. */
export const inspectable = { NODE_OPTIONS: "--inspect=127.0.0.1:0" };

export interface Inspector extends AsyncDisposable {
  /**
   * Sends a command of the protocol, and gives its result.
   *
   * @throws what the service answers that it can't do
   */
  send<Result>(method: string, parameters?: object): Promise<Result>;
  /** Runs an expression in the service, and gives its value, which must be JSON; a promise is waited for. */
  evaluate<Value>(expression: string): Promise<Value>;
}

interface Reply {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: { readonly message: string };
}

/**
 * Connects to a service that was started with `inspectable`.
 *
 * @param stderr what it wrote: its address is in there
 */
export async function openInspector(stderr: string): Promise<Inspector> {
  const address = /^Debugger listening on (\S+)$/m.exec(stderr)?.[1];
  if (address === undefined) throw new Error(`the service has no inspector:\n${stderr}`);
  const socket = new WebSocket(address);
  await once(socket, "open");
  const waiting = new Map<number, (reply: Reply) => void>();
  let sent = 0;
  socket.addEventListener("message", ({ data }) => {
    const reply = JSON.parse(String(data)) as Reply;
    if (reply.id === undefined) return;
    waiting.get(reply.id)?.(reply);
    waiting.delete(reply.id);
  });
  const send = async <Result>(method: string, params: object = {}): Promise<Result> => {
    const id = ++sent;
    const answered = new Promise<Reply>((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params }));
    const { result, error } = await answered;
    if (error !== undefined) throw new Error(`${method}: ${error.message}`);
    return result as Result;
  };
  return {
    send,
    async evaluate<Value>(expression: string) {
      const parameters = { expression, awaitPromise: true, returnByValue: true };
      const { result, exceptionDetails } = await send<{
        result: { value: Value };
        exceptionDetails?: { exception?: { description?: string } };
      }>("Runtime.evaluate", parameters);
      if (exceptionDetails !== undefined) throw new Error(exceptionDetails.exception?.description ?? expression);
      return result.value;
    },
    async [Symbol.asyncDispose]() {
      socket.close();
    },
  };
}
