import { onAbort } from "./abort.js";
import { native } from "./addon.js";
import { rule, type Rule } from "./check.js";
import { TenureError, unwrap } from "./errors.js";
import type { Failure, NativeGuard, NativeWait } from "./native.js";
import { LONGEST_TIMER } from "./timers.js";

/** The options of an acquire. */
export interface WaitOptions {
  /**
   * The longest wait, in milliseconds. `Infinity` by default. 0 makes one attempt. A server has a second to answer, however
   * short the timeout is, and five for the attempt of 0.
   */
  timeout?: number | undefined;
  /** Cancels the wait: the promise rejects immediately with the signal's reason, and nothing is held. */
  signal?: AbortSignal | undefined;
}

/** @internal */
export const WAIT = { timeout: rule.timeout, signal: rule.signal } satisfies Record<keyof WaitOptions, Rule>;

/** @internal */
export type Started = NativeGuard | NativeWait | Failure;

/** @internal Returns the native guard of an acquire that has started, after the wait if it has to wait. */
export function finish(started: Started, signal: AbortSignal | undefined): NativeGuard | Promise<NativeGuard> {
  return started instanceof native().NativeWait ? wait(started, signal) : unwrap<NativeGuard>(started);
}

function wait(waiting: NativeWait, signal: AbortSignal | undefined): Promise<NativeGuard> {
  // The outcome arrives in the event loop, whose stack does not show the caller.
  const caller = new Error();
  Error.captureStackTrace(caller, wait);
  return new Promise((resolve, reject) => {
    const { NativeGuard } = native();
    let timer: NodeJS.Timeout | undefined;
    let removeListener: (() => void) | undefined;
    let over = false;
    const leave = () => {
      over = true;
      clearTimeout(timer);
      removeListener?.();
    };
    const settle = (outcome: NativeGuard | Failure | null) => {
      if (outcome === null) return;
      leave();
      if (outcome instanceof NativeGuard) resolve(outcome);
      else reject(new TenureError(outcome).withStackOf(caller));
    };
    const checkDeadline = () => {
      const left = waiting.left();
      // The wait for a server ends by itself.
      if (left === null) return;
      if (left > 0) timer = setTimeout(checkDeadline, Math.min(Math.ceil(left), LONGEST_TIMER));
      else settle(waiting.giveUp());
    };
    // The wait listens before anything can end it, as its end removes the listener, which keeps the process alive.
    waiting.listen(() => settle(waiting.poll()));
    settle(waiting.poll());
    if (over) return;
    if (signal) {
      removeListener = onAbort(signal, () => {
        waiting.cancel();
        leave();
        reject(signal.reason);
      });
    }
    checkDeadline();
  });
}
