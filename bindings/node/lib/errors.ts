import type { Failure, Holder } from "./native.js";

export type TenureErrorCode =
  /** Held by another within the time given. */
  | "TENURE_BUSY"
  /** It was held and is no more: broken, revoked, its files removed, or released. */
  | "TENURE_LOST"
  /** The platform or the file system cannot do what is needed. Nothing was locked. */
  | "TENURE_UNSUPPORTED"
  /** Something that is no lock stands where the lock file belongs. It was left as it is. */
  | "TENURE_IN_THE_WAY"
  /** The path cannot be a target. */
  | "TENURE_INVALID_TARGET"
  | "TENURE_PERMISSION_DENIED"
  /** The lock's files cannot be made here. */
  | "TENURE_CANNOT_CREATE"
  | "TENURE_WOULD_DEADLOCK"
  | "TENURE_UNREACHABLE"
  /** The system's own error. */
  | "TENURE_IO";

/** Why a lock could not be acquired, kept or released. Decide by `code`; print `message` for people. */
export class TenureError extends Error {
  override readonly name: string = "TenureError";
  readonly code: TenureErrorCode;
  /** The path that it is about. */
  readonly path: string;
  /** Who holds, where that is known. */
  readonly holder: Holder | undefined;
  /** What to do about it. */
  readonly hint: string | undefined;
  /** How long was waited, in milliseconds. */
  readonly waited: number | undefined;
  /** The system's error number, where there was one. */
  readonly errno: number | undefined;

  constructor(failure: Failure) {
    super(failure.message);
    this.code = failure.code as TenureErrorCode;
    this.path = failure.path;
    this.holder = failure.holder;
    this.hint = failure.hint;
    this.waited = failure.waited;
    this.errno = failure.errno;
  }

  /** @internal With the stack of the call that waited. */
  askedBy(call: Error): this {
    return this.#restack(call.stack);
  }

  /** @internal With another text, in the stack as well. */
  saying(message: string): this {
    const { stack } = this;
    this.message = message;
    return this.#restack(stack);
  }

  #restack(stack: string | undefined): this {
    // Below the text, which may have several lines.
    const frames = stack?.match(/(?:\n {4}at .*)+$/)?.[0] ?? "";
    this.stack = `${this.name}: ${this.message}${frames}`;
    return this;
  }
}

/** @internal What went well; the failure is thrown. */
export function must<T extends object>(outcome: T | Failure): T {
  if ("code" in outcome && "message" in outcome) throw new TenureError(outcome as Failure);
  return outcome as T;
}
