/** @internal Waits for `work`, or for the abort of `signal`, which rejects with its reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  let removeListener: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => (removeListener = onAbort(signal, () => reject(signal.reason))));
  try {
    return await Promise.race([work, aborted]);
  } finally {
    removeListener?.();
  }
}

// One listener for each signal, however many waits share it, as Node warns about more than ten.
const waits = new WeakMap<AbortSignal, { calls: Set<() => void>; listener: () => void }>();

/** @internal Calls `abort` once `signal` is aborted. The returned function removes the call. */
export function onAbort(signal: AbortSignal, abort: () => void): () => void {
  let known = waits.get(signal);
  if (!known) {
    const calls = new Set<() => void>();
    const listener = () => {
      waits.delete(signal);
      for (const call of calls) call();
    };
    known = { calls, listener };
    waits.set(signal, known);
    signal.addEventListener("abort", listener, { once: true });
  }
  const { calls, listener } = known;
  calls.add(abort);
  return () => {
    if (!calls.delete(abort) || calls.size > 0) return;
    signal.removeEventListener("abort", listener);
    waits.delete(signal);
  };
}
