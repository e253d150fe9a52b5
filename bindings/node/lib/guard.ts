import { EventEmitter } from "node:events";

import { checkLabel } from "./check.js";
import { TenureError } from "./errors.js";
import { native as addon } from "./addon.js";
import type { Failure, Holder, LeaseLeft, NativeGuard, NativeRelease, NativeSuspended, Overrun } from "./native.js";
import { Suspended } from "./suspended.js";

/** The end of the previous tenure. After a crash, the protected data may be half-written. */
export type Previous = { crashed: false; holder: undefined } | { crashed: true; holder: Holder };

// Keeps every held lock reachable: a lock must not be released by a garbage collection.
const held = new Set<Guard>();

/** @internal Emits `overrun` on the guards of that grant. With `reentrant`, or without a fence, there may be several. */
export function emitOverrun(overrun: Overrun): void {
  for (const guard of held) {
    if (guard.fence === overrun.fence && guard.path === overrun.target) guard.emit("overrun", overrun);
  }
}

/**
 * A held lock. It is released by `release()`, at the end of an `await using`, or when its thread of Node ends.
 *
 * Events: `lost` with the error, within about a second of the loss, and `overrun` when the lock is held for longer than
 * `maxHold`. Neither keeps the process alive.
 *
 * @example
 * const guard = await lock("sessions/main.jsonl", { timeout: 10_000 });
 * try {
 *   if (guard.previous.crashed) console.warn(`repairing the data of ${guard.previous.holder.text}`);
 *   // Write, with guard.fence for a resource that checks it.
 *   guard.check();
 * } finally {
 *   await guard.release();
 * }
 */
export class Guard extends EventEmitter {
  #native: NativeGuard;
  /** `given up`: it could not be suspended or resumed, which the next release reports. */
  #state: "held" | "suspended" | "given up" | "released" = "held";
  #suspended: NativeSuspended | undefined;
  #previous: Previous | undefined;
  #lost: Promise<TenureError> | undefined;
  #watchLoss: (() => void) | undefined;
  #release: Promise<void> | undefined;

  /** @internal */
  constructor(native: NativeGuard) {
    super();
    this.#native = native;
    held.add(this);
  }

  /**
   * The fencing token, greater than that of every earlier holder. A resource that checks it refuses a smaller one than it
   * has seen. Null for a shared lock and for one without a record, while the lock is suspended, and after a resume that failed:
   * nothing may be written then.
   */
  get fence(): number | null {
    return this.#state === "suspended" || this.#state === "given up" ? null : this.#native.fence;
  }

  /** Whether this is a shared lock. */
  get shared(): boolean {
    return this.#native.shared;
  }

  /** The path that the lock protects, or the target on a server. */
  get path(): string {
    return this.#native.target;
  }

  /** The path of the lock file: `<path>.lock`. On a server, the lock's name there. */
  get lockFile(): string {
    return this.#native.lockFile;
  }

  /** The end of the previous tenure. */
  get previous(): Previous {
    if (this.#previous === undefined) {
      const holder = this.#native.crashed();
      this.#previous = holder ? { crashed: true, holder } : { crashed: false, holder: undefined };
    }
    return this.#previous;
  }

  /** A promise that resolves with the error if the lock is lost while it is held, and otherwise never settles. */
  get lost(): Promise<TenureError> {
    return (this.#lost ??= new Promise((resolve) => {
      const update = () => {
        if (this.#state !== "held" || !this.#native.isLost()) return;
        const failure = this.#native.check();
        if (!failure) return;
        const error = new TenureError(failure);
        resolve(error);
        this.emit("lost", error);
      };
      this.#watchLoss = () => {
        this.#native.watch(update);
        update();
      };
      if (this.#state === "held") this.#watchLoss();
    }));
  }

  /** This holder, as other processes see it. */
  get holder(): Holder {
    return this.#native.holder();
  }

  /**
   * The rest of the lease of a lock on a server. Null for a lock in files, which needs no lease, and after the release.
   */
  get lease(): LeaseLeft | null {
    return this.#state === "held" ? this.#native.lease : null;
  }

  /** Throws `TENURE_LOST` if the lock was broken, revoked or released. Takes one or two system calls, and asks no server. */
  check(): void {
    const failure = this.#state !== "held" ? this.#notHeld() : this.#native.check();
    if (failure) throw new TenureError(failure);
  }

  /** Changes the label that other processes see. */
  setLabel(label: string): void {
    checkLabel(label);
    const failure = this.#state !== "held" ? this.#notHeld() : this.#native.setLabel(label);
    if (failure) throw new TenureError(failure);
  }

  /** Sets the exit code of the work under the lock, which the lock's history shows once the lock is released. */
  setExitCode(code: number): void {
    if (!Number.isInteger(code)) throw new TypeError(`the exit code must be a whole number, not ${String(code)}`);
    if (this.#state === "held") this.#native.setExitCode(code);
  }

  /** The number of the slot that is held, from 0; undefined for a lock without slots, and after the release. */
  get slot(): number | undefined {
    return this.#state === "held" ? (this.#native.slot ?? undefined) : undefined;
  }

  /** Records that the work succeeded, for later acquires with `notMoreOftenThan`. Call it before the release. */
  markSuccessful(): void {
    const failure = this.#state !== "held" ? this.#notHeld() : this.#native.markSuccessful();
    if (failure) throw new TenureError(failure);
  }

  /**
   * Releases the lock. Rejects with `TENURE_LOST` if the lock had been lost, also by a resume that failed. A second call does
   * nothing but wait for the first.
   *
   * On a server it waits for the answer, for a few seconds at most, and rejects with `TENURE_UNREACHABLE` without one. The
   * lock is then free when its lease is over.
   */
  async release(): Promise<void> {
    if (this.#state === "released") return this.#release?.catch(() => {});
    this.#beginRelease();
    const started = this.#native.startRelease();
    if (started === null) return;
    if (!(started instanceof addon().NativeRelease)) throw new TenureError(started);
    return (this.#release = released(started));
  }

  /**
   * Releases the lock synchronously, in files by the same few system calls as `release()`. On a server it blocks the thread
   * until the server has answered, for a few seconds at most. `using` does the same.
   */
  releaseSync(): void {
    this.#beginRelease();
    const failure = this.#native.release();
    if (failure) throw new TenureError(failure);
  }

  /**
   * Lets others hold the lock for a while, as for a long network call, until `resume()` of the returned object. Then this guard
   * holds it again, before processes that wait already, and `resume()` says whether others held it meanwhile.
   *
   * While it is suspended, `check()` throws `TENURE_LOST`, `fence` is null, and `release()` gives it up for good. Rejects with
   * `TENURE_UNSUPPORTED` for a shared lock, one with slots, without a record or on a server, and while another guard of this
   * process holds it too: the lock stays held.
   *
   * @example
   * const suspended = await guard.suspend();
   * const answer = await askTheModel(messages);
   * const { changed } = await suspended.resume({ timeout: 60_000 });
   * if (changed) messages = await readAgain();
   */
  async suspend(): Promise<Suspended> {
    if (this.#state !== "held") throw new TenureError(this.#notHeld());
    const suspended = addon().NativeSuspended.of(this.#native);
    if (!(suspended instanceof addon().NativeSuspended)) {
      if (!this.#native.isHeld()) this.#end("given up");
      throw new TenureError(suspended);
    }
    this.#state = "suspended";
    this.#suspended = suspended;
    held.delete(this);
    return new Suspended(suspended, {
      guard: this,
      over: () => {
        if (this.#suspended === suspended) return undefined;
        return this.#state === "held" ? "the lock is not suspended" : `the lock was ${this.#state}`;
      },
      resumed: (native) => {
        this.#native = native;
        this.#state = "held";
        this.#suspended = undefined;
        this.#previous = undefined;
        held.add(this);
        this.#watchLoss?.();
      },
      failed: () => {
        if (this.#suspended === suspended) this.#end("given up");
      },
    });
  }

  /** Begins a release. Throws if the lock was given up. */
  #beginRelease(): void {
    const failure = this.#state === "given up" ? this.#notHeld() : undefined;
    this.#end("released");
    if (failure) throw new TenureError(failure);
  }

  /** Notes that the lock is not held any more, and gives a suspended one up. */
  #end(state: "released" | "given up"): void {
    this.#state = state;
    held.delete(this);
    this.#suspended?.giveUp();
    this.#suspended = undefined;
  }

  #notHeld(): Failure {
    const why = {
      suspended: "is suspended",
      "given up": "was given up: it could not be suspended or resumed",
      released: "was released",
      held: "is held",
    }[this.#state];
    return { code: "TENURE_LOST", message: `${this.path}: the lock ${why}`, path: this.path };
  }

  override on(event: "lost", listener: (error: TenureError) => void): this;
  override on(event: "overrun", listener: (overrun: Overrun) => void): this;
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

/** Waits for the end of a release. */
function released(release: NativeRelease): Promise<void> {
  return new Promise((resolve, reject) => {
    const update = () => {
      const outcome = release.poll();
      if (outcome === true) resolve();
      else if (outcome !== false) reject(new TenureError(outcome));
    };
    release.listen(update);
    update();
  });
}

export interface Guard extends AsyncDisposable, Disposable {}

// Before Node 18.18 these symbols are missing. TypeScript's `await using` defines them.
if (Symbol.asyncDispose) Guard.prototype[Symbol.asyncDispose] = Guard.prototype.release;
if (Symbol.dispose) Guard.prototype[Symbol.dispose] = Guard.prototype.releaseSync;
