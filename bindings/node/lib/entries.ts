// Reentrant locks for the packages whose interfaces this package has. They count in JavaScript, and thus by thread. The
// library's `reentrant` counts by process, so that worker threads would not exclude each other.
import { TenureError } from "./errors.js";
import type { Guard } from "./guard.js";
import { lock, type LockOptions } from "./lock.js";

interface Entry {
  readonly guard: Guard;
  readonly owner: unknown;
  count: number;
}

interface Waiter {
  readonly joins: Joins;
  readonly join: () => void;
}

/** Returns whether an acquire joins the lock that `owner` holds. */
type Joins = (owner: unknown) => boolean;

/** @internal The options of an acquire. */
export interface EnterOptions extends LockOptions {
  /** The longest wait, in milliseconds. */
  timeout: number;
  /** The owner, for the `joins` of later acquires. */
  owner?: unknown;
  /** Which locks of this thread the acquire joins. By default none. */
  joins?: Joins | undefined;
}

/** @internal One of the handles of a held lock. */
export interface Entered {
  readonly guard: Guard;
  /** The guard's fence. These locks always have one, as they are exclusive and keep a record. */
  readonly fence: number;
  /** Ends this handle. The last one releases the lock, and calls `lost` instead of rejecting if the lock had been lost. */
  release(lost: (error: TenureError) => void): Promise<void>;
}

const LOST = "TENURE_LOST";

/** @internal The reentrant locks of this thread, by path. */
export class Entries {
  readonly #held = new Map<string, Entry>();
  readonly #waiting = new Map<string, Set<Waiter>>();

  /** Returns whether this thread holds the lock. */
  has(path: string): boolean {
    return this.#current(path) !== undefined;
  }

  /** Acquires, or joins the lock of this thread. */
  async enter(path: string, { owner, joins, timeout, ...options }: EnterOptions): Promise<Entered> {
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
        // Another task of this thread may join the lock, and release it.
        const all = { ...options, deadlockCheck: false, timeout: left, signal: joined.signal };
        return this.#add(path, await lock(path, all), owner);
      } catch (error) {
        // Another task of this thread acquired the lock meanwhile.
        if (error !== joined) throw error;
      } finally {
        if (waiter) this.#forget(path, waiter);
      }
    }
  }

  /** Returns the lock that this thread holds. Drops a lost one, so that the thread can acquire it again. */
  #current(path: string): Entry | undefined {
    const entry = this.#held.get(path);
    if (!entry) return undefined;
    try {
      entry.guard.check();
      return entry;
    } catch (error) {
      if (!isLost(error)) return entry;
      this.#held.delete(path);
      void entry.guard.release().catch(() => {});
      return undefined;
    }
  }

  #add(path: string, guard: Guard, owner: unknown): Entered {
    const entry = { guard, owner, count: 1 };
    this.#held.set(path, entry);
    const entered = this.#share(path, entry);
    for (const { joins, join } of this.#waiting.get(path) ?? []) if (joins(owner)) join();
    return entered;
  }

  #share(path: string, entry: Entry): Entered {
    let released = false;
    return {
      guard: entry.guard,
      fence: entry.guard.fence as number,
      release: async (lost) => {
        if (released) return;
        released = true;
        if (--entry.count > 0) return;
        if (this.#held.get(path) === entry) this.#held.delete(path);
        try {
          await entry.guard.release();
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
