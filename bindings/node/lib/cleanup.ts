import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";

import { native } from "./addon.js";

const SIGNALS: readonly string[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGABRT"];
/** For these Node has a handler that ends the process, as long as the program listens to neither. */
const ENDING = ["SIGINT", "SIGTERM"] as const;

let installed = false;

/** @internal Lock files go at `process.exit()` and when a signal ends the process. */
export function cleanUpAtExit(): void {
  if (installed) return;
  installed = true;
  takeSignals();
  if (!isMainThread) return;
  // With its last listener gone a signal ends the process by its default action, which removes nothing. signal-exit takes
  // its listeners away and then raises the signal anew.
  process.on("removeListener", (name) => {
    if (typeof name === "string" && SIGNALS.includes(name) && process.listenerCount(name) === 0) takeSignals();
  });
}

function takeSignals(): void {
  const numbers = (names: readonly (typeof ENDING)[number][]) => names.map((name) => constants.signals[name]);
  // A worker does not see what the main thread listens to. Node's own handler is told by its resetting itself.
  const [over, ifReset] = isMainThread
    ? [ENDING.filter((name) => process.listenerCount(name) === 0), []]
    : [[], ENDING];
  native().installCleanup(numbers(over), numbers(ifReset));
}
