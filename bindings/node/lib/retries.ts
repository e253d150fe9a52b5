/** The retries of a package that polls. */
export interface Retries {
  retries?: number | undefined;
  factor?: number | undefined;
  minTimeout?: number | undefined;
  maxTimeout?: number | undefined;
  randomize?: boolean | undefined;
}

type Pauses = Retries & { retries: number; factor: number; minTimeout: number; forever?: boolean };

/** @internal Yields the pauses in milliseconds. With `forever`, they are repeated without an end. */
export function* pauses(options: Pauses): Generator<number> {
  const { factor, minTimeout, maxTimeout = Infinity, randomize = false, forever = false } = options;
  const retries = forever ? Math.max(options.retries, 1) : options.retries;
  for (let attempt = 0; forever || attempt < retries; attempt++) {
    const spread = randomize ? 1 + Math.random() : 1;
    yield Math.min(maxTimeout, Math.round(spread * minTimeout * factor ** (attempt % retries)));
  }
}

/** @internal Returns the sum of all pauses, which is the timeout of a wait that does not poll. */
export function total(options: Pauses): number {
  if (options.retries === Infinity || options.forever) return Infinity;
  let sum = 0;
  for (const pause of pauses(options)) {
    sum += pause;
    if (sum > Number.MAX_SAFE_INTEGER) return Infinity;
  }
  return sum;
}

/** @internal Returns the target of a lock file. */
export function targetOf(lockFile: string): string {
  if (lockFile.endsWith(".lock") && !lockFile.endsWith("/.lock")) return lockFile.slice(0, -".lock".length);
  throw new TypeError(`the name of a lock file must end in .lock: ${lockFile}`);
}
