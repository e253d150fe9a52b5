/**
 * A lock between programs: never held by two at once, never left behind by a program that died, and it always knows who
 * holds it.
 */
import { must } from "./errors.js";
import { inspect as look, type Look } from "./native.js";

export { TenureError, type TenureErrorCode } from "./errors.js";
export { Held, type Previous } from "./held.js";
export { Lock, lock, type LockOptions, type WaitOptions, withLock } from "./lock.js";
export type { Holder, Look, Overdue } from "./native.js";

/** How the lock of `path` stands. It touches nothing. */
export function inspect(path: string): Look {
  return must<Look>(look(path));
}
