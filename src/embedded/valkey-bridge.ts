import type { Socket } from "node:net";
import type { Engine, EngineHost } from "./valkey-engine.ts";

const READABLE = 1;
const WRITABLE = 2;
const BYTES_PER_POLL_ENTRY = 8;

/** Below this the engine takes descriptors for those of files. */
const FIRST_FD = 4096;
/** The engine's tables hold descriptors up to 10,127: 6,032 from FIRST_FD on, less its listeners'. */
export const MAX_CLIENTS = 6_000;

/** Unread input of one client at which its socket is paused, and at which it is let go on. */
const PAUSE_INPUT_AT = 1024 * 1024;
const RESUME_INPUT_AT = 256 * 1024;
/**
 * Output that Node may hold for one client. What is beyond waits inside the engine, which counts it and drops the
 * client by its own `client-output-buffer-limit`: a subscriber at 32 MB, or 8 MB for a minute, as Redis does.
 */
const BLOCK_OUTPUT_AT = 256 * 1024;
/** How long a client that the engine has hung up on may take to read its last replies. */
const LINGER_MS = 10_000;

/** Passes of the engine's loop before the sockets get a turn again. */
const PASSES_PER_TURN = 64;
/** The engine's own clock ticks ten times a second; with nobody connected only keys' expiry waits for it. */
const TICK_MS = 100;
const IDLE_TICK_MS = 1_000;

interface Client {
  readonly fd: number;
  readonly socket: Socket;
  readonly input: Buffer[];
  /** How much of input[0] the engine has read already. */
  offset: number;
  unread: number;
  paused: boolean;
  ended: boolean;
  outputBlocked: boolean;
}

/**
 * Carries bytes between TCP sockets and the engine, and lets the engine run when there is something for it to do.
 *
 *     socket ──data──▶ input ──read──▶ ┌────────┐
 *        ▲                             │ engine │ ◀── step: on data, drain, hang-up, and ten times a second
 *        └───────────write──────────── └────────┘
 */
export class ValkeyBridge {
  /** What the engine is compiled against; hand it to `bootEngine`. */
  readonly host: EngineHost = {
    socket: () => this.takeFd(),
    listen: (fd) => {
      this.listeners.add(fd);
      return 0;
    },
    accept: () => this.acceptNext(),
    read: (fd, address, length) => this.read(fd, address, length),
    write: (fd, address, length) => this.write(fd, address, length),
    close: (fd) => this.hangUp(fd),
    poll: (interest, count, ready, max) => this.poll(interest, count, ready, max),
  };

  private readonly onCrash: (error: unknown) => void;
  private readonly clients = new Map<number, Client>();
  private readonly lingering = new Set<Socket>();
  private readonly listeners = new Set<number>();
  private readonly freeFds: number[] = [];
  private arrivals: number[] = [];
  private nextFd = FIRST_FD;
  private engine: Engine | undefined;
  private closed = false;
  /** Whether the engine did anything in this pass; if so its replies are flushed only in the next one. */
  private progress = false;
  private stepsDue: NodeJS.Immediate | undefined;
  private clock: NodeJS.Timeout | undefined;
  private clockIsIdle = true;

  constructor(onCrash: (error: unknown) => void) {
    this.onCrash = onCrash;
  }

  /** From here on the engine is run. Clients that came before are served now. */
  run(engine: Engine): void {
    this.engine = engine;
    this.tick();
  }

  /** Takes a new connection, which must allow half-open: a client may ask, send its FIN, and then wait for replies. */
  connect(socket: Socket): void {
    if (this.closed) {
      socket.destroy();
      return;
    }
    if (this.clients.size >= MAX_CLIENTS) {
      this.linger(socket, "-ERR max number of clients reached\r\n");
      return;
    }
    const fd = this.takeFd();
    const client: Client = {
      fd,
      socket,
      input: [],
      offset: 0,
      unread: 0,
      paused: false,
      ended: false,
      outputBlocked: false,
    };
    this.clients.set(fd, client);
    this.arrivals.push(fd);
    this.listenTo(client);
    if (this.clockIsIdle) this.setClock();
    this.wake();
  }

  /** Drops every client and never runs the engine again. */
  close(): void {
    this.closed = true;
    clearTimeout(this.clock);
    clearImmediate(this.stepsDue);
    for (const { socket } of this.clients.values()) socket.destroy();
    for (const socket of this.lingering) socket.destroy();
    this.clients.clear();
    this.lingering.clear();
  }

  private listenTo(client: Client): void {
    const { socket } = client;
    const ended = () => {
      client.ended = true;
      this.wake();
    };
    socket.on("data", (chunk: Buffer) => {
      client.input.push(chunk);
      client.unread += chunk.length;
      if (client.unread >= PAUSE_INPUT_AT && !client.paused) {
        client.paused = true;
        socket.pause();
      }
      this.wake();
    });
    socket.on("drain", () => {
      client.outputBlocked = false;
      this.wake();
    });
    socket.on("end", ended);
    socket.on("close", ended);
    // "close" always follows; without a listener an abrupt reset would be an uncaught exception
    socket.on("error", () => {});
  }

  /** However many sockets have news in this turn of Node's loop, the engine runs once for all of them. */
  private wake(): void {
    if (this.stepsDue || this.closed || !this.engine) return;
    this.stepsDue = setImmediate(() => {
      this.stepsDue = undefined;
      this.runEngine(1);
    });
  }

  private tick(): void {
    // what the engine's clock brings about (a timeout of a blocked client) is answered in the pass after
    this.runEngine(2);
    this.setClock();
  }

  private setClock(): void {
    if (this.closed) return;
    clearTimeout(this.clock);
    this.clockIsIdle = this.clients.size === 0;
    this.clock = setTimeout(() => this.tick(), this.clockIsIdle ? IDLE_TICK_MS : TICK_MS);
  }

  private runEngine(atLeast: number): void {
    if (!this.engine) return;
    try {
      for (let pass = 1; pass <= PASSES_PER_TURN && !this.closed; pass++) {
        this.progress = false;
        this.engine.step();
        if (!this.progress && pass >= atLeast) return;
      }
      this.wake();
    } catch (error) {
      this.close();
      this.onCrash(error);
    }
  }

  private memory(): Buffer {
    if (!this.engine) throw new Error("the engine used a socket before it was booted");
    return this.engine.memory();
  }

  private takeFd(): number {
    return this.freeFds.pop() ?? this.nextFd++;
  }

  private acceptNext(): number {
    const fd = this.arrivals.shift();
    if (fd === undefined) return -1;
    this.progress = true;
    return fd;
  }

  private read(fd: number, address: number, length: number): number {
    const client = this.clients.get(fd);
    if (client && client.input.length === 0 && !client.ended) return -1;
    this.progress = true;
    if (!client) return 0;
    const memory = this.memory();
    let copied = 0;
    for (let chunk = client.input[0]; chunk && copied < length; chunk = client.input[0]) {
      const end = Math.min(chunk.length, client.offset + length - copied);
      copied += chunk.copy(memory, address + copied, client.offset, end);
      client.offset = end;
      if (end < chunk.length) break;
      client.input.shift();
      client.offset = 0;
    }
    client.unread -= copied;
    if (client.paused && client.unread < RESUME_INPUT_AT) {
      client.paused = false;
      client.socket.resume();
    }
    return copied;
  }

  private write(fd: number, address: number, length: number): number {
    const client = this.clients.get(fd);
    if (client?.outputBlocked) return 0;
    this.progress = true;
    // nobody is left to read it, and the engine learns that when it reads
    if (!client || client.socket.destroyed) return length;
    const bytes = Buffer.allocUnsafeSlow(length);
    this.memory().copy(bytes, 0, address, address + length);
    client.socket.write(bytes);
    client.outputBlocked = client.socket.writableLength > BLOCK_OUTPUT_AT;
    return length;
  }

  private hangUp(fd: number): void {
    const client = this.clients.get(fd);
    if (!client) return;
    this.progress = true;
    this.clients.delete(fd);
    this.freeFds.push(fd);
    client.socket.removeAllListeners("data").removeAllListeners("drain").removeAllListeners("end");
    this.linger(client.socket);
  }

  /** Sends what is still to be sent, and then closes, but does not wait for a client that never reads it. */
  private linger(socket: Socket, lastWords = ""): void {
    if (socket.destroyed) return;
    this.lingering.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.lingering.delete(socket));
    socket.setTimeout(LINGER_MS, () => socket.destroy());
    socket.end(lastWords);
    socket.destroySoon();
  }

  private poll(interest: number, count: number, ready: number, max: number): number {
    const memory = this.memory();
    let found = 0;
    for (let i = 0; i < count && found < max; i++) {
      const entry = interest + i * BYTES_PER_POLL_ENTRY;
      const fd = memory.readInt32LE(entry);
      const events = this.eventsOf(fd) & memory.readInt32LE(entry + 4);
      if (events === 0) continue;
      const answer = ready + found * BYTES_PER_POLL_ENTRY;
      memory.writeInt32LE(fd, answer);
      memory.writeInt32LE(events, answer + 4);
      found++;
    }
    return found;
  }

  private eventsOf(fd: number): number {
    if (this.listeners.has(fd)) return this.arrivals.length > 0 ? READABLE : 0;
    const client = this.clients.get(fd);
    if (!client) return 0;
    const readable = client.input.length > 0 || client.ended ? READABLE : 0;
    return readable | (client.outputBlocked ? 0 : WRITABLE);
  }
}
