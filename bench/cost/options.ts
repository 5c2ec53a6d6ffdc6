/** What the command lines of the parts that measure cost have in common. */

const given = process.argv.slice(2);

/** The number that `--name=` gives; the other when it does not stand there. */
export function option(name: string, otherwise: number): number {
  const text = given.find((argument) => argument.startsWith(`--${name}=`))?.slice(name.length + 3);
  const value = text === undefined ? otherwise : Number(text);
  if (!(value > 0)) throw new Error(`--${name}: ${text} is no positive number`);
  return value;
}

/**
 * The words on the command line; all of them when none stands there.
 *
 * @throws when one is not known
 */
export function words<Word extends string>(all: readonly Word[]): readonly Word[] {
  const named = given.filter((argument) => !argument.startsWith("--"));
  const unknown = named.filter((word) => !all.some((one) => one === word));
  if (unknown.length > 0) throw new Error(`${unknown.join(", ")}: there are ${all.join(", ")}`);
  return named.length === 0 ? all : all.filter((word) => named.includes(word));
}
