// Locks that one thread enters again, as the packages do whose names these are. They count in JavaScript, so by thread: the
// library's `reentrant` counts by process, which would let two worker threads in.
import { TenureError } from "./errors.js";
import type { Held } from "./held.js";
import { lock, type LockOptions } from "./lock.js";

interface Entry {
  readonly held: Held;
  readonly owner: unknown;
  count: number;
}

interface Waiter {
  readonly joins: Joins;
  readonly join: () => void;
}

/** May one who asks enter what `owner` holds? */
type Joins = (owner: unknown) => boolean;

export interface Entering extends LockOptions {
  /** How long to wait, in milliseconds. */
  timeout: number;
  /** Who enters, for those who ask later. */
  owner?: unknown;
  /** Whose tenure of this thread it joins. Nobody's by default. */
  joins?: Joins | undefined;
}

/** @internal One of the handles of a tenure. */
export interface Entered {
  readonly held: Held;
  /** Gives this handle back; the last one releases. Where the lock was lost, `lost` is called in place of a rejection. */
  release(lost: (error: TenureError) => void): Promise<void>;
}

const LOST = "TENURE_LOST";

/** @internal */
export class Entries {
  readonly #held = new Map<string, Entry>();
  readonly #waiting = new Map<string, Set<Waiter>>();

  /** Does this thread hold it? */
  has(path: string): boolean {
    return this.#current(path) !== undefined;
  }

  async enter(path: string, { owner, joins, timeout, ...options }: Entering): Promise<Entered> {
    const end = performance.now() + timeout;
    for (;;) {
      const entry = this.#current(path);
      if (entry && joins?.(entry.owner)) {
        entry.count++;
        return this.#share(path, entry);
      }
      const joined = new AbortController();
      const waiter = joins && { joins, join: () => joined.abort(joined) };
      if (waiter) this.#waiters(path).add(waiter);
      try {
        const left = Math.max(0, end - performance.now());
        return this.#begin(path, await lock(path, { ...options, timeout: left, signal: joined.signal }), owner);
      } catch (error) {
        // Another task of this thread was granted it meanwhile.
        if (error !== joined) throw error;
      } finally {
        if (waiter) this.#forget(path, waiter);
      }
    }
  }

  /** What this thread holds. What was lost keeps nobody out: not those who ask again, either. */
  #current(path: string): Entry | undefined {
    const entry = this.#held.get(path);
    if (!entry) return undefined;
    try {
      entry.held.check();
      return entry;
    } catch (error) {
      if (!isLost(error)) return entry;
      this.#held.delete(path);
      void entry.held.release().catch(() => {});
      return undefined;
    }
  }

  #begin(path: string, held: Held, owner: unknown): Entered {
    const entry = { held, owner, count: 1 };
    this.#held.set(path, entry);
    const entered = this.#share(path, entry);
    for (const { joins, join } of this.#waiting.get(path) ?? []) if (joins(owner)) join();
    return entered;
  }

  #share(path: string, entry: Entry): Entered {
    let released = false;
    return {
      held: entry.held,
      release: async (lost) => {
        if (released) return;
        released = true;
        if (--entry.count > 0) return;
        if (this.#held.get(path) === entry) this.#held.delete(path);
        try {
          await entry.held.release();
        } catch (error) {
          if (!isLost(error)) throw error;
          lost(error);
        }
      },
    };
  }

  #waiters(path: string): Set<Waiter> {
    const waiters = this.#waiting.get(path) ?? new Set();
    this.#waiting.set(path, waiters);
    return waiters;
  }

  #forget(path: string, waiter: Waiter): void {
    const waiters = this.#waiting.get(path);
    waiters?.delete(waiter);
    if (waiters?.size === 0) this.#waiting.delete(path);
  }
}

function isLost(error: unknown): error is TenureError {
  return error instanceof TenureError && error.code === LOST;
}
