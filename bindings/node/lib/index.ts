/**
 * A lock between programs: never held by two at once, never left behind by a program that died, and it always knows who
 * holds it.
 */
import { native } from "./addon.js";
import { must } from "./errors.js";
import { type Path, target } from "./lock.js";
import type { Look } from "./native.js";

export { TenureError, type TenureErrorCode } from "./errors.js";
export { Held, type Previous } from "./held.js";
export { Lock, lock, type LockOptions, type Path, type WaitOptions, withLock } from "./lock.js";
export type { Holder, Look, Overdue } from "./native.js";

/** How the lock of `path` stands. It touches nothing. */
export function inspect(path: Path): Look {
  return must<Look>(native().inspect(target(path)));
}
