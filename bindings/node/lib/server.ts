// Targets on servers, which the interfaces of other packages do not take.
import { isMainThread } from "node:worker_threads";

import { native } from "./addon.js";
import { TenureError } from "./errors.js";

/** @internal Returns the kind of server that a target names, or null for any other path. */
export function serverOf(target: unknown): "etcd" | "postgres" | null {
  return typeof target === "string" && target.includes("://") ? native().serverOf(target) : null;
}

/** @internal Throws for a target on a server, which would otherwise be the path of a file. `of` is the called interface. */
export function refuseServer(of: string, ...targets: unknown[]): void {
  for (const target of targets) {
    if (serverOf(target) === null) continue;
    const path = target as string;
    const hint = "lock() of the package tenure locks a name on a server";
    throw new TenureError({ code: "TENURE_UNSUPPORTED", message: `${path}: ${of} locks files; ${hint}`, path, hint });
  }
}

/** How long the end of the process waits for servers to return its places in their queues, in milliseconds. */
const LAST_WAIT = 1000;

let installed = false;

/** @internal Makes `process.exit()` return the process's places in servers' queues. */
export function giveUpAtExit(): void {
  if (installed || !isMainThread) return;
  installed = true;
  process.once("exit", () => native().giveUpWaits(LAST_WAIT));
}
