// The scopes of tasks: by them an acquire knows to which task it belongs.
import { AsyncLocalStorage } from "node:async_hooks";

import { native } from "./addon.js";
import { checkOptions, checkWork, rule, type Rule } from "./check.js";
import type { NativeTask } from "./native.js";

/** The options of `task`. */
export interface TaskOptions {
  /** A name, which `CircleWait.taskName` shows. */
  name?: string | undefined;
}

const TASK = { name: rule.text } satisfies Record<keyof TaskOptions, Rule>;

const scopes = new AsyncLocalStorage<NativeTask | undefined>();

/**
 * Calls `work` as one task, and resolves with its result: what `work` acquires belongs to the task. So an acquire that would wait
 * for the task itself, or that would close a circle of waiting tasks, threads and programs, rejects immediately with
 * `TENURE_WOULD_DEADLOCK`.
 *
 * That is a promise: what the task acquires, only the task releases, and while one of its acquires waits, the task releases
 * nothing. Open a lock whose guard others release with `deadlockCheck: false`. The scope reaches as far as an `AsyncLocalStorage`:
 * to all that `work` awaits or starts, also by timers and callbacks, until `work` ends. So a branch of a `Promise.all` or a
 * `Promise.race`, of which one goes on while another waits, and work in the background need a scope of their own: a `task` within
 * this one is another task.
 *
 * @example
 * const transfer = (source, target) => withLock(source, () => withLock(target, () => move(source, target)));
 * await Promise.all([task(() => transfer("a", "b")), task(() => transfer("b", "a"))]);
 */
export async function task<T>(work: () => T | PromiseLike<T>, options: TaskOptions = {}): Promise<T> {
  checkWork(work);
  checkOptions("task", options, TASK);
  const own = new (native().NativeTask)(options.name);
  try {
    return await scopes.run(own, work);
  } finally {
    // Leftovers of `work`, such as timers, are in the scope still, but acquire for no task any more.
    own.end();
  }
}

/** @internal Returns the task in whose scope this call is, or null. */
export function currentTask(): NativeTask | null {
  return scopes.getStore() ?? null;
}

/** @internal Calls `act` outside of all scopes, for callbacks that serve all tasks. */
export function outsideOfTasks<T>(act: () => T): T {
  return scopes.getStore() === undefined ? act() : scopes.run(undefined, act);
}
