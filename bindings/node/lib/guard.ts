import { EventEmitter } from "node:events";

import { checked } from "./check.js";
import { TenureError } from "./errors.js";
import type { Holder, NativeGuard, Overdue } from "./native.js";

/** How the tenure before ended. After a crash, what the lock protects may be half-written. */
export type Previous = { crashed: false; holder: undefined } | { crashed: true; holder: Holder };

// What is held stays held, also where nobody keeps the handle: a lock must not end with a garbage collection.
const kept = new Set<Held>();

/** @internal Emits `overdue` on the handles of that tenure: with `reentrant` there may be several. */
export function tellOverdue(overdue: Overdue): void {
  for (const held of kept) {
    if (held.fence === overdue.fence && held.path === overdue.target) held.emit("overdue", overdue);
  }
}

/**
 * A held lock. It ends with `release()`, at the end of an `await using`, or with its thread of Node.
 *
 * Events: `lost` with the error, once it is known to be lost (within about a second); `overdue` when it has lasted
 * longer than `maxHold`. Neither keeps the process alive.
 */
export class Held extends EventEmitter {
  /** A number that is greater than that of every tenure before: for the resource to refuse a holder from the past. */
  readonly fence: number;
  /** The path that the lock protects. */
  readonly path: string;
  /** `<path>.lock`. */
  readonly lockFile: string;
  /** How the tenure before ended. */
  readonly previous: Previous;
  readonly #native: NativeGuard;
  #released = false;
  #lost: Promise<TenureError> | undefined;

  /** @internal */
  constructor(native: NativeGuard) {
    super();
    this.#native = native;
    this.fence = native.fence;
    this.path = native.target;
    this.lockFile = native.lockFile;
    const holder = native.crashed();
    this.previous = holder ? { crashed: true, holder } : { crashed: false, holder: undefined };
    kept.add(this);
  }

  /** Settles with the error if the lock is lost while it is held; never, otherwise. */
  get lost(): Promise<TenureError> {
    return (this.#lost ??= new Promise((resolve) => {
      const look = () => {
        if (this.#released || !this.#native.isLost()) return;
        const failure = this.#native.check();
        if (!failure) return;
        const error = new TenureError(failure);
        resolve(error);
        this.emit("lost", error);
      };
      if (this.#released) return;
      this.#native.watch(look);
      look();
    }));
  }

  /** This holder, as others see it. */
  get holder(): Holder {
    return this.#native.holder();
  }

  /** Throws `TENURE_LOST` unless the lock is still ours at this moment. One or two system calls. */
  check(): void {
    const failure = this.#released ? this.#gone() : this.#native.check();
    if (failure) throw new TenureError(failure);
  }

  /** Changes the label that others see. */
  setLabel(label: string): void {
    checked.label(label);
    const failure = this.#released ? this.#gone() : this.#native.setLabel(label);
    if (failure) throw new TenureError(failure);
  }

  /** Releases. Rejects with `TENURE_LOST` where the lock was no longer ours. Again, it does nothing. */
  async release(): Promise<void> {
    this.releaseSync();
  }

  /** As `release()`, which makes no more than a few system calls either. */
  releaseSync(): void {
    this.#released = true;
    kept.delete(this);
    const failure = this.#native.release();
    if (failure) throw new TenureError(failure);
  }

  #gone() {
    return { code: "TENURE_LOST", message: `${this.path}: the lock was released`, path: this.path };
  }

  override on(event: "lost", listener: (error: TenureError) => void): this;
  override on(event: "overdue", listener: (overdue: Overdue) => void): this;
  override on(event: string | symbol, listener: (...args: any[]) => void): this;
  override on(event: string | symbol, listener: (...args: any[]) => void): this {
    super.on(event, listener);
    if (event === "lost") void this.lost;
    return this;
  }

  override addListener(event: string | symbol, listener: (...args: any[]) => void): this {
    return this.on(event, listener);
  }
}

export interface Held extends AsyncDisposable, Disposable {}

// Where Node has none (before 18.18), TypeScript's `await using` brings them.
if (Symbol.asyncDispose) Held.prototype[Symbol.asyncDispose] = Held.prototype.release;
if (Symbol.dispose) Held.prototype[Symbol.dispose] = Held.prototype.releaseSync;
