/** So many at a time: the others wait, and come in the order in which they asked. */

export class Turns {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(most: number) {
    this.#free = most;
  }

  /** @returns whether it has a turn, which it must give back; false when the signal is given first */
  async take(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#free > 0) {
      this.#free--;
      return true;
    }
    return new Promise((resolve) => {
      const end = (hasTurn: boolean) => {
        this.#waiting.delete(come);
        signal.removeEventListener("abort", leave);
        resolve(hasTurn);
      };
      const come = () => end(true);
      const leave = () => end(false);
      this.#waiting.add(come);
      signal.addEventListener("abort", leave);
    });
  }

  give(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#free++;
    else next();
  }
}
