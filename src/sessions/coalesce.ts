/**
 * Requests that wait at the same time travel together: one statement, one commit for all of them.
 *
 *   add ──► waiting ──a statement is free──► one batch ──► each caller its own answer
 *
 * There is no window: a request that finds a statement free leaves at once, alone. Only while all are under way do
 * others gather. Knows neither SQL nor sessions.
 */

import { errors } from "../errors.ts";

export interface CoalescerOptions<Input, Output> {
  /**
   * Runs a batch, also of one, and gives an output for each input, in their order. It waits for nobody, and gives
   * undefined for an input that would have to wait.
   */
  readonly run: (inputs: readonly Input[]) => Promise<readonly (Output | undefined)[]>;
  /** Runs an input that has to wait, or that the database refused among others. */
  readonly runAlone: (input: Input) => Promise<Output>;
  /** Whether an error says for certain that nothing of the batch was done. */
  readonly isRefusal: (error: unknown) => boolean;
  /** Inputs with different groups never share a batch. */
  readonly group: (input: Input) => string;
  /** Inputs with the same key are run one after the other, in their order; undefined: in any order, also together. */
  readonly key?: (input: Input) => string;
  /** How heavy an input is, in bytes of text. */
  readonly weight?: (input: Input) => number;
  /** How long a caller waits, from its request to its answer. */
  readonly deadlineMs?: number;
}

/** Few enough that others gather meanwhile, enough that one slow commit does not hold up all. */
const statementsUnderWay = 3;

const largestBatch = 64;

/** A batch of large documents would hold up the small ones behind it. */
const heaviestBatch = 1024 * 1024;

interface Waiting<Input, Output> {
  readonly input: Input;
  readonly resolve: (output: Output) => void;
  readonly reject: (error: unknown) => void;
  isSent: boolean;
}

export class Coalescer<Input, Output> {
  readonly #options: CoalescerOptions<Input, Output>;
  readonly #waiting = new Set<Waiting<Input, Output>>();
  /** The keys of what is under way. */
  readonly #busyKeys = new Set<string>();
  #underWay = 0;

  constructor(options: CoalescerOptions<Input, Output>) {
    this.#options = options;
  }

  /**
   * Runs an input, with others or alone.
   *
   * @throws what running it alone would throw; database_unavailable when there is no answer in time, and then what has
   * not been sent is never run
   */
  add(input: Input): Promise<Output> {
    const { deadlineMs = 2_500 } = this.#options;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiting);
        const doubt = waiting.isSent ? " What was to be changed may or may not have been." : "";
        reject(errors.databaseUnavailable(`The database did not answer in time.${doubt}`));
      }, deadlineMs);
      const waiting: Waiting<Input, Output> = {
        input,
        isSent: false,
        resolve(output) {
          clearTimeout(timer);
          resolve(output);
        },
        reject(error) {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.#waiting.add(waiting);
      this.#send();
    });
  }

  #send(): void {
    while (this.#underWay < statementsUnderWay) {
      const batch = this.#nextBatch();
      if (batch.length === 0) return;
      this.#underWay++;
      void this.#run(batch).finally(() => {
        this.#underWay--;
        this.#send();
      });
    }
  }

  /** The longest waiting, and what may go with it. */
  #nextBatch(): Waiting<Input, Output>[] {
    const { group, key, weight } = this.#options;
    const batch: Waiting<Input, Output>[] = [];
    // Also what stays behind keeps its turn: a later change of the same session must not overtake it.
    const passedOver = new Set<string>();
    let bytes = 0;
    for (const waiting of this.#waiting) {
      const [first] = batch;
      if (batch.length === largestBatch || bytes > heaviestBatch) break;
      const itsKey = key?.(waiting.input);
      const mustWait =
        (first !== undefined && group(first.input) !== group(waiting.input)) ||
        (itsKey !== undefined && (this.#busyKeys.has(itsKey) || passedOver.has(itsKey)));
      if (mustWait) {
        if (itsKey !== undefined) passedOver.add(itsKey);
        continue;
      }
      if (itsKey !== undefined) this.#busyKeys.add(itsKey);
      bytes += weight?.(waiting.input) ?? 0;
      batch.push(waiting);
    }
    for (const waiting of batch) {
      waiting.isSent = true;
      this.#waiting.delete(waiting);
    }
    return batch;
  }

  /** Settles each of a batch; those that must go alone do so after it, and hold up nobody but their own key. */
  async #run(batch: readonly Waiting<Input, Output>[]): Promise<void> {
    const alone = await this.#runTogether(batch);
    for (const waiting of batch) if (!alone.has(waiting)) this.#release(waiting);
    for (const waiting of alone) void this.#runAlone(waiting);
  }

  /** @returns those that must be run alone */
  async #runTogether(batch: readonly Waiting<Input, Output>[]): Promise<ReadonlySet<Waiting<Input, Output>>> {
    try {
      const outputs = await this.#options.run(batch.map(({ input }) => input));
      return new Set(
        batch.filter((waiting, at) => {
          const output = outputs[at];
          if (output === undefined) return true;
          waiting.resolve(output);
          return false;
        }),
      );
    } catch (error) {
      // What the database refused it has undone whole, so each can be tried for itself. What it did not answer may have
      // been done, and must not be done again.
      if (batch.length > 1 && this.#options.isRefusal(error)) return new Set(batch);
      for (const waiting of batch) waiting.reject(error);
      return new Set();
    }
  }

  async #runAlone(waiting: Waiting<Input, Output>): Promise<void> {
    await this.#options.runAlone(waiting.input).then(waiting.resolve, waiting.reject);
    this.#release(waiting);
    this.#send();
  }

  #release({ input }: Waiting<Input, Output>): void {
    const key = this.#options.key?.(input);
    if (key !== undefined) this.#busyKeys.delete(key);
  }
}
