import type { CircleWait, Failure, Holder } from "./native.js";

/** The kind of a `TenureError`. */
export type TenureErrorCode =
  /** The lock stayed held until the timeout. */
  | "TENURE_BUSY"
  /** The run is not needed: another waits already, or the last success is too recent. */
  | "TENURE_SKIPPED"
  /**
   * A task would wait for itself, or the wait would close a `circle` of tasks, threads and programs, or the holder waits for this
   * process to end. Circles and waits of tasks are found where these run in a scope (`task`).
   */
  | "TENURE_WOULD_DEADLOCK"
  /** The lock is no longer held: broken, revoked, released, its files removed, or its lease over. */
  | "TENURE_LOST"
  /** The platform, the file system or the server cannot do what is needed. Nothing was locked. */
  | "TENURE_UNSUPPORTED"
  /** The path of the lock file is taken by something that is not a lock. It is left unchanged. */
  | "TENURE_OBSTRUCTED"
  /** The path cannot be locked. */
  | "TENURE_INVALID_TARGET"
  /** The system denies this user access to the lock's files, or the server denies it access to the lock. */
  | "TENURE_PERMISSION_DENIED"
  /** The lock's files cannot be created here. */
  | "TENURE_CANNOT_CREATE"
  /** No server answers, or the server accepts no writes. A lock that was held is free when its lease is over. */
  | "TENURE_UNREACHABLE"
  /** The system's error. `errno` has its number. */
  | "TENURE_IO";

/**
 * A failure to open, acquire, keep, read or release a lock. Decide by `code`, not by `message`.
 *
 * @example
 * try {
 *   await lock("sessions/main.jsonl", { timeout: 10_000 });
 * } catch (error) {
 *   if (!(error instanceof TenureError) || error.code !== "TENURE_BUSY") throw error;
 *   console.error(`held by ${error.holder?.text}`, error.hint);
 * }
 */
export class TenureError extends Error {
  override readonly name: string = "TenureError";
  readonly code: TenureErrorCode;
  /** The path of the failed operation. */
  readonly path: string;
  /** The holder of the lock, if known. */
  readonly holder: Holder | undefined;
  /** A remedy, in one sentence. */
  readonly hint: string | undefined;
  /** The time for which the acquire waited, in milliseconds. */
  readonly waited: number | undefined;
  /** The system's error number, if the system reported an error. */
  readonly errno: number | undefined;
  /** For `TENURE_WOULD_DEADLOCK`, the programs of which each holds a lock and waits for the next one's, if there are several. */
  readonly circle: CircleWait[] | undefined;

  constructor(failure: Failure) {
    super(failure.message);
    this.code = failure.code as TenureErrorCode;
    this.path = failure.path;
    this.holder = failure.holder;
    this.hint = failure.hint;
    this.waited = failure.waited;
    this.errno = failure.errno;
    this.circle = failure.circle;
  }

  /** @internal Takes the stack of the call that waited. */
  withStackOf(call: Error): this {
    return this.#restack(call.stack);
  }

  /** @internal Replaces the text, in the stack as well. */
  withMessage(message: string): this {
    const { stack } = this;
    this.message = message;
    return this.#restack(stack);
  }

  #restack(stack: string | undefined): this {
    // The frames follow the text, which may have several lines.
    const frames = stack?.match(/(?:\n {4}at .*)+$/)?.[0] ?? "";
    this.stack = `${this.name}: ${this.message}${frames}`;
    return this;
  }
}

/** @internal Returns the outcome, or throws the failure. */
export function unwrap<T extends object | boolean>(outcome: T | Failure): T {
  if (typeof outcome === "object" && "code" in outcome && "message" in outcome) throw new TenureError(outcome as Failure);
  return outcome as T;
}

/** @internal Emits a warning for a lock that was lost before its release. */
export function warnOfLoss(error: TenureError): void {
  process.emitWarning(`the lock was lost before its release: ${error.message}`, { code: error.code });
}
