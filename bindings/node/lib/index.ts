/**
 * A lock between programs. The lock of a program that died never blocks others, and the holder is always known.
 */
import { native } from "./addon.js";
import { unwrap } from "./errors.js";
import { type Path, target } from "./lock.js";
import type { Status } from "./native.js";

export { TenureError, type TenureErrorCode } from "./errors.js";
export { Guard, type Previous } from "./guard.js";
export { Lock, lock, type LockOptions, type Path, type WaitOptions, withLock } from "./lock.js";
export type { Holder, Overdue, Status } from "./native.js";

/**
 * Returns the state of the lock of `path`. Does not acquire or change anything.
 *
 * @example
 * const { state, holder } = status("sessions/main.jsonl");
 * if (state === "held") console.log(`held by ${holder?.text}`);
 */
export function status(path: Path): Status {
  return unwrap<Status>(native().status(target(path)));
}
