/**
 * Requests that wait at the same time travel together: one statement, one commit for all of them.
 *
 *   add ──► waiting ──a statement is free──► one batch ──► each caller its own answer
 *                                               └──would have to wait──► alone, after it
 *
 * There is no window: a request that finds a statement free leaves at once, with those that were read in the same turn of
 * the event loop. Only while all are under way do others gather. Knows neither SQL nor sessions.
 */

import { deadlineFor } from "../db/deadline.ts";
import { errors } from "../errors.ts";

export interface CoalescerOptions<Input, Output> {
  /**
   * Runs a batch, also of one, and gives an output for each input, in their order. It waits for nobody, and gives
   * undefined for an input that would have to wait.
   */
  readonly run: (inputs: readonly Input[]) => Promise<readonly (Output | undefined)[]>;
  /** Runs an input that would have to wait. */
  readonly runAlone: (input: Input) => Promise<Output>;
  /** Which of these would have to wait for a row that somebody else has locked; undefined: none ever does. */
  readonly areLocked?: (inputs: readonly Input[]) => Promise<readonly boolean[]>;
  /** Whether an error says for certain that nothing of the batch was done. */
  readonly isRefusal: (error: unknown) => boolean;
  /** Inputs with different groups never share a batch. */
  readonly group: (input: Input) => string;
  /** Inputs with the same key are run one after the other, in their order; undefined: in any order, also together. */
  readonly key?: (input: Input) => string;
  /** How heavy an input is, in bytes of text. */
  readonly weight?: (input: Input) => number;
  /** Whether the caller has left. It is asked when the input's turn comes; what is under way then is not stopped. */
  readonly isGone?: (input: Input) => boolean;
  /** How long a caller waits, from its request to its answer; with a heavy input longer. */
  readonly deadlineMs?: number;
  /** Calls back once this turn of the event loop has read what there is to read; undefined: setImmediate. */
  readonly atEndOfTurn?: (send: () => void) => void;
}

/** Few enough that others gather meanwhile, enough that one slow commit does not hold up all. */
const statementsUnderWay = 3;

const largestBatch = 64;

/** A batch of large documents would hold up the small ones in it, and those behind it. One that is larger goes alone. */
const heaviestBatch = 1024 * 1024;

/** So many of a kind wait for locked rows, each on a connection: those of many such rows must not take them all. */
const mostAlone = 3;

/** How often it is looked which of the others need not wait any more. */
const lookAgainMs = 20;

/** An input, and the caller that waits for what comes of it. */
interface Waiting<Input, Output> {
  readonly input: Input;
  readonly group: string;
  readonly key: string | undefined;
  resolve: (output: Output) => void;
  reject: (error: unknown) => void;
  timer: NodeJS.Timeout | undefined;
  /** The next with the same key. */
  next: Waiting<Input, Output> | undefined;
  isSent: boolean;
  /** The caller was told that its time is over. */
  isLate: boolean;
}

/** What came of an input in a batch: it was skipped, or all of the batch was refused. */
type End = "settled" | "skipped" | "refused";

export class Coalescer<Input, Output> {
  readonly #options: CoalescerOptions<Input, Output>;
  /** The longest waiting first, of each key one at most: the others stand behind it, or behind what is under way. */
  #waiting: Waiting<Input, Output>[] = [];
  readonly #lastOfKey = new Map<string, Waiting<Input, Output>>();
  /** At the end of this turn of the event loop. */
  #isSending = false;
  #underWay = 0;
  #alone = 0;
  /** What would have to wait when enough did so already. */
  readonly #setAside: Waiting<Input, Output>[] = [];
  #look: NodeJS.Timeout | undefined;

  constructor(options: CoalescerOptions<Input, Output>) {
    this.#options = options;
  }

  /**
   * Runs an input, with others or alone.
   *
   * @throws what running it alone would throw; database_unavailable when there is no answer in time, and then what has
   * not been sent is never run; request_timeout, which nobody hears, when the caller has left before it was sent
   */
  add(input: Input): Promise<Output> {
    const { group, key, weight, deadlineMs } = this.#options;
    return new Promise((resolve, reject) => {
      const waiting: Waiting<Input, Output> = {
        input,
        group: group(input),
        key: key?.(input),
        resolve,
        reject,
        timer: undefined,
        next: undefined,
        isSent: false,
        isLate: false,
      };
      waiting.timer = setTimeout(giveUp, deadlineFor(weight?.(input) ?? 0, deadlineMs), waiting);
      this.#queue(waiting);
      this.#sendSoon();
    });
  }

  /** Once what this turn of the event loop has read is looked at: it can leave together, and a lone request leaves now. */
  #sendSoon(): void {
    if (this.#isSending) return;
    this.#isSending = true;
    const { atEndOfTurn = setImmediate } = this.#options;
    atEndOfTurn(() => {
      this.#isSending = false;
      this.#send();
    });
  }

  #queue(waiting: Waiting<Input, Output>): void {
    const { key } = waiting;
    const before = key === undefined ? undefined : this.#lastOfKey.get(key);
    if (key !== undefined) this.#lastOfKey.set(key, waiting);
    if (before === undefined) this.#waiting.push(waiting);
    else before.next = waiting;
  }

  #send(): void {
    while (this.#underWay < statementsUnderWay && this.#waiting.length > 0) {
      const batch = this.#nextBatch();
      if (batch.length > 0) void this.#run(batch);
    }
  }

  /** The longest waiting, and what may go with it. */
  #nextBatch(): Waiting<Input, Output>[] {
    const { weight } = this.#options;
    const batch: Waiting<Input, Output>[] = [];
    const staying: Waiting<Input, Output>[] = [];
    let bytes = 0;
    let looked = 0;
    for (const first of this.#waiting) {
      if (batch.length === largestBatch) break;
      looked++;
      const waiting = this.#firstWanted(first);
      if (waiting === undefined) continue;
      const itsBytes = weight?.(waiting.input) ?? 0;
      const [leader = waiting] = batch;
      if (waiting !== leader && (waiting.group !== leader.group || bytes + itsBytes > heaviestBatch)) {
        staying.push(waiting);
        continue;
      }
      bytes += itsBytes;
      waiting.isSent = true;
      batch.push(waiting);
    }
    this.#waiting = staying.concat(this.#waiting.slice(looked));
    return batch;
  }

  /** Of an input and those behind it of its key, the first whose caller waits still; the ones before it are dropped. */
  #firstWanted(first: Waiting<Input, Output>): Waiting<Input, Output> | undefined {
    let waiting: Waiting<Input, Output> | undefined = first;
    while (waiting !== undefined && !this.#isWanted(waiting)) waiting = this.#takeNext(waiting);
    return waiting;
  }

  /** Asked before anything is sent on its behalf: from then on it may have been done. */
  #isWanted(waiting: Waiting<Input, Output>): boolean {
    if (waiting.isLate) return false;
    if (this.#options.isGone?.(waiting.input) !== true) return true;
    refuse(waiting, errors.requestTimeout());
    return false;
  }

  /** Settles each of a batch; those that can't be settled so go on after it, and hold up nobody but their own key. */
  async #run(batch: readonly Waiting<Input, Output>[]): Promise<void> {
    this.#underWay++;
    const ends = await this.#runTogether(batch);
    this.#underWay--;
    for (const [at, waiting] of batch.entries()) {
      if (ends[at] === "settled") this.#end(waiting);
      else if (ends[at] === "skipped") this.#goAlone(waiting);
      else if (this.#isWanted(waiting)) void this.#run([waiting]);
      else this.#end(waiting);
    }
    this.#send();
  }

  async #runTogether(batch: readonly Waiting<Input, Output>[]): Promise<readonly End[]> {
    try {
      const outputs = await this.#options.run(batch.map(({ input }) => input));
      return batch.map((waiting, at) => {
        const output = outputs[at];
        if (output === undefined) return "skipped";
        answer(waiting, output);
        return "settled";
      });
    } catch (error) {
      // What the database refused it has undone whole, so each can be tried for itself. What it did not answer may have
      // been done, and must not be done again.
      if (batch.length > 1 && this.#options.isRefusal(error)) return batch.map(() => "refused");
      for (const waiting of batch) refuse(waiting, error);
      return batch.map(() => "settled");
    }
  }

  #goAlone(waiting: Waiting<Input, Output>): void {
    // Nothing of it was done.
    waiting.isSent = false;
    if (this.#options.areLocked === undefined || this.#alone < mostAlone) {
      void this.#runAlone(waiting);
      return;
    }
    this.#setAside.push(waiting);
    this.#look ??= setTimeout(() => this.#lookAgain(), lookAgainMs);
  }

  async #runAlone(waiting: Waiting<Input, Output>): Promise<void> {
    if (this.#isWanted(waiting)) {
      waiting.isSent = true;
      this.#alone++;
      await this.#options.runAlone(waiting.input).then(
        (output) => answer(waiting, output),
        (error: unknown) => refuse(waiting, error),
      );
      this.#alone--;
    }
    this.#end(waiting);
    this.#send();
  }

  /** Lets those go that would wait no longer. */
  async #lookAgain(): Promise<void> {
    const looked = this.#setAside.splice(0);
    const areLocked = await this.#options.areLocked?.(looked.map(({ input }) => input)).catch(() => undefined);
    const others = this.#setAside.splice(0);
    this.#look = undefined;
    for (const [at, waiting] of looked.entries()) {
      if (areLocked?.[at] === false || !this.#isWanted(waiting)) void this.#runAlone(waiting);
      else this.#goAlone(waiting);
    }
    for (const waiting of others) this.#goAlone(waiting);
  }

  /** The next of its key goes before all that came later. */
  #end(waiting: Waiting<Input, Output>): void {
    const next = this.#takeNext(waiting);
    if (next !== undefined) this.#waiting.unshift(next);
  }

  #takeNext({ key, next }: Waiting<Input, Output>): Waiting<Input, Output> | undefined {
    if (key !== undefined && next === undefined) this.#lastOfKey.delete(key);
    return next;
  }
}

function answer<Input, Output>(waiting: Waiting<Input, Output>, output: Output): void {
  clearTimeout(waiting.timer);
  waiting.resolve(output);
  letGo(waiting);
}

function refuse<Input, Output>(waiting: Waiting<Input, Output>, error: unknown): void {
  clearTimeout(waiting.timer);
  waiting.reject(error);
  letGo(waiting);
}

const ignore = () => {};

/**
 * Of what it was answered. The map of keys leaves tables behind when it grows, which keep what they held until all of the
 * heap is collected: each answer would grow old with them.
 */
function letGo<Input, Output>(waiting: Waiting<Input, Output>): void {
  waiting.resolve = ignore;
  waiting.reject = ignore;
}

function giveUp<Input, Output>(waiting: Waiting<Input, Output>): void {
  waiting.isLate = true;
  const doubt = waiting.isSent ? " What was to be changed may or may not have been." : "";
  waiting.reject(errors.databaseUnavailable(`The database did not answer in time.${doubt}`));
}
