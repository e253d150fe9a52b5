import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";

import { native } from "./addon.js";

const SIGNALS: readonly string[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGABRT"];
/** The signals for which Node has a handler that ends the process, unless the program listens to them. */
const ENDING = ["SIGINT", "SIGTERM"] as const;

let installed = false;

/** @internal Installs the removal of lock files for `process.exit()` and for signals that end the process. */
export function cleanUpAtExit(): void {
  if (installed) return;
  installed = true;
  takeSignals();
  if (!isMainThread) return;
  // Without its last listener, a signal ends the process by its default action, which removes nothing. The package
  // signal-exit removes its listeners and raises the signal again.
  process.on("removeListener", (name) => {
    if (typeof name === "string" && SIGNALS.includes(name) && process.listenerCount(name) === 0) takeSignals();
  });
}

function takeSignals(): void {
  const numbers = (names: readonly (typeof ENDING)[number][]) => names.map((name) => constants.signals[name]);
  // A worker does not see the listeners of the main thread, but Node's own handler is the one that resets itself.
  const [over, ifReset] = isMainThread
    ? [ENDING.filter((name) => process.listenerCount(name) === 0), []]
    : [[], ENDING];
  native().installCleanup(numbers(over), numbers(ifReset));
}
