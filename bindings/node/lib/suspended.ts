import { checkOptions } from "./check.js";
import { TenureError } from "./errors.js";
import type { Guard } from "./guard.js";
import type { NativeGuard, NativeSuspended } from "./native.js";
import { currentTask } from "./task.js";
import { finish, WAIT, type WaitOptions } from "./wait.js";

/** What is known of the time in which a lock was suspended. */
export type Meanwhile = "nobody" | "others" | "unknown";

/** A lock that was suspended and is held again. */
export interface Resumed {
  /** The guard that was suspended, with a new `fence` and `previous`. */
  guard: Guard;
  /** Whether what was read before must be read again: false only if `meanwhile` is "nobody". */
  changed: boolean;
  /**
   * "nobody" if it is proven that no other process held the lock meanwhile, "others" if one did, and "unknown" if no process
   * with Tenure did, and nothing proves that no other one did.
   */
  meanwhile: Meanwhile;
}

/** @internal What a suspended lock does with its guard. */
export interface Owner {
  guard: Guard;
  /** Why the lock is not suspended any more, in words; undefined while it is. */
  over(): string | undefined;
  /** Puts the new grant in the place of the suspended one. */
  resumed(native: NativeGuard): void;
  /** The lock was given up. */
  failed(): void;
}

/**
 * A suspended lock, from `guard.suspend()`. `release()` of the guard gives it up for good.
 *
 * @example
 * const suspended = await guard.suspend();
 * const answer = await askTheModel(messages);
 * const { changed } = await suspended.resume({ timeout: 60_000 });
 * if (changed) messages = await readAgain();
 */
export class Suspended {
  readonly #native: NativeSuspended;
  readonly #owner: Owner;
  #resuming = false;

  /** @internal */
  constructor(native: NativeSuspended, owner: Owner) {
    this.#native = native;
    this.#owner = owner;
  }

  /**
   * Acquires the lock again, before processes that wait already. The guard that was suspended holds it from then on.
   *
   * Rejects like `Lock.acquire`, and the lock is then given up for good: the guard's `release()` rejects with `TENURE_LOST`.
   * Rejects with an `Error` if the lock is not suspended, as in a second call.
   */
  async resume(options: WaitOptions = {}): Promise<Resumed> {
    checkOptions("resume", options, WAIT);
    const { signal, timeout = Infinity } = options;
    const { guard } = this.#owner;
    const over = this.#resuming ? "the lock is being resumed already" : this.#owner.over();
    if (over !== undefined) throw new Error(`${guard.path}: ${over}`);
    this.#resuming = true;
    try {
      signal?.throwIfAborted();
      const granted = await finish(this.#native.start(timeout, currentTask()), signal);
      if (this.#owner.over() !== undefined) {
        granted.release();
        throw new TenureError({ code: "TENURE_LOST", message: `${guard.path}: the lock was released`, path: guard.path });
      }
      const meanwhile = this.#native.end(granted);
      this.#owner.resumed(granted);
      return { guard, changed: meanwhile !== "nobody", meanwhile };
    } catch (error) {
      this.#native.giveUp();
      this.#owner.failed();
      throw error;
    } finally {
      this.#resuming = false;
    }
  }
}
