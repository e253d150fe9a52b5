// OpenClaw's session write lock, for all versions.
import { lstatSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";

import { native } from "./addon.js";
import { Entries } from "./entries.js";
import { type TenureError, unwrap } from "./errors.js";
import { normalized } from "./normalized.js";
import type { Holder, Swept } from "./native.js";
import { refuseServer } from "./server.js";

/** @internal */
export const STALE = 30 * 60_000;
/** @internal */
export const MAX_HOLD = 5 * 60_000;
const GRACE = 2 * 60_000;
/** The longest time of a timer of Node, rounded down as in OpenClaw. */
const LONGEST = 2_147_000_000;

/** A held session lock. */
export interface SessionWriteLock {
  /** Releases the lock. Prints a warning if the lock had been lost, which `check()` and `lost` report. */
  release: () => Promise<void>;
  /** The fencing token, greater than that of every earlier holder. */
  fence: number;
  /** Throws `TENURE_LOST` if the lock is lost. */
  check: () => void;
  /** A promise that resolves with the error if the lock is lost, and otherwise never settles. */
  lost: Promise<TenureError>;
}

// All versions share these entries, so that a thread can acquire by one version what it holds by another.
const entries = new Entries();

/** @internal The request for a session lock. */
export interface SessionRequest {
  path: string;
  maxHold: number;
  reentrant: boolean;
}

/** @internal Returns whether this thread holds the lock. */
export const isHeldHere = (path: string): boolean => entries.has(path);

/** @internal Returns the path of a session file, with links in its folder resolved. */
export async function sessionPath(file: string): Promise<string> {
  refuseServer("tenure/session-write-lock", file);
  return normalized(file);
}

/** @internal Acquires a session lock. */
export async function acquire({ path, maxHold, reentrant }: SessionRequest, timeout: number): Promise<SessionWriteLock> {
  const joins = reentrant ? () => true : undefined;
  const { guard, fence, release } = await entries.enter(path, { timeout, maxHold, joins });
  if (guard.listenerCount("overrun") === 0) {
    guard.on("overrun", ({ heldFor }) => {
      console.warn(`[session-write-lock] held for ${Math.round(heldFor)}ms (max=${maxHold}ms): ${guard.lockFile}`);
    });
  }
  return {
    release: () => release((error) => console.warn(`[session-write-lock] lost before its release: ${error.message}`)),
    fence,
    check: () => guard.check(),
    get lost() {
      return guard.lost;
    },
  };
}

/** A lock that `cleanStaleLockFiles` found. */
export interface SessionLockInspection {
  lockPath: string;
  pid: number | null;
  pidAlive: boolean;
  createdAt: string | null;
  ageMs: number | null;
  stale: boolean;
  staleReasons: string[];
  removed: boolean;
}

/** The parameters of `cleanStaleLockFiles`. */
export interface CleanParams {
  sessionsDir: string;
  staleMs?: number | undefined;
  removeStale?: boolean | undefined;
  nowMs?: number | undefined;
  log?: { warn?: (message: string) => void; info?: (message: string) => void } | undefined;
}

/** The result of `cleanStaleLockFiles`. */
export interface CleanResult {
  locks: SessionLockInspection[];
  cleaned: SessionLockInspection[];
}

/** @internal The rules by which a version reports locks as stale. */
export interface Rules {
  staleMs: number;
  /** Whether a lock file is reported as `hold-exceeded` after its `maxHoldMs`. */
  holdExceeded: boolean;
  /** Whether a lock file with this process's pid and start time is reported as `orphan-self-pid`. */
  orphans: boolean;
}

/** @internal Reports every `*.jsonl.lock` in a folder, and removes the locks of dead holders. */
export async function sweep(params: CleanParams, rules: Rules): Promise<CleanResult> {
  refuseServer("tenure/session-write-lock", params.sessionsDir);
  const now = params.nowMs ?? Date.now();
  const dir = resolve(params.sessionsDir);
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const swept = names.length > 0 ? unwrap<Swept[]>(native().clean(dir, ".jsonl", params.removeStale === false)) : [];
  const found = new Map(swept.map((each) => [each.found.lockFile, inspection(each, rules, now)]));
  for (const name of names.filter((name) => name.endsWith(".jsonl.lock"))) {
    const lockPath = join(dir, name);
    // A file that is not a lock is reported, and not removed.
    if (!found.has(lockPath) && exists(lockPath)) found.set(lockPath, notALock(lockPath));
  }
  const locks = [...found.values()].sort((one, other) => one.lockPath.localeCompare(other.lockPath));
  for (const { lockPath, staleReasons, removed } of locks) {
    if (removed) params.log?.warn?.(`removed stale session lock: ${lockPath} (${staleReasons.join(", ") || "unknown"})`);
  }
  return { locks, cleaned: locks.filter(({ removed }) => removed) };
}

/** Returns whether a path exists, also as a dangling link. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function notALock(lockPath: string): SessionLockInspection {
  const staleReasons = ["missing-pid", "invalid-createdAt"];
  return { lockPath, pid: null, pidAlive: false, createdAt: null, ageMs: null, stale: true, staleReasons, removed: false };
}

function inspection({ found, removed }: Swept, rules: Rules, now: number): SessionLockInspection {
  const { holder } = found;
  const ageMs = ageOf(holder, now);
  // Age is judged by the caller's clock and limit. The order of the reasons is OpenClaw's.
  const reasons = found.reasons.filter((reason) => !["too-old", "hold-exceeded", "orphan-self-pid"].includes(reason));
  reasons.push(...ageReasons(holder, rules.staleMs, now).filter((reason) => rules.holdExceeded || reason === "too-old"));
  const isOrphan = found.reasons.includes("orphan-self-pid") && holder?.startTime !== undefined;
  if (rules.orphans && isOrphan) reasons.push("orphan-self-pid");
  return {
    lockPath: found.lockFile,
    pid: holder?.pid ?? null,
    pidAlive: holder?.pid !== undefined && isPidAlive(holder.pid),
    createdAt: holder?.createdAt === undefined ? null : new Date(holder.createdAt).toISOString(),
    ageMs,
    stale: reasons.length > 0,
    staleReasons: reasons,
    removed,
  };
}

/** @internal Returns the age of a holder's record, or null without a date. */
export function ageOf(holder: Holder | undefined, now: number): number | null {
  return holder?.createdAt === undefined ? null : Math.max(0, now - holder.createdAt);
}

/** @internal Returns the reasons of age for which a live holder is reported as stale. */
export function ageReasons(holder: Holder | undefined, staleMs: number, now: number): string[] {
  const age = ageOf(holder, now);
  if (age === null) return [];
  const exceeded = holder?.maxHold !== undefined && age > holder.maxHold;
  return [...(age > staleMs ? ["too-old"] : []), ...(exceeded ? ["hold-exceeded"] : [])];
}

/** Returns the maximum hold time for a run with a timeout. */
export function resolveSessionLockMaxHoldFromTimeout(params: {
  timeoutMs: number;
  graceMs?: number | undefined;
  minMs?: number | undefined;
}): number {
  const min = positive(params.minMs, MAX_HOLD);
  const timeout = positive(params.timeoutMs, min, true);
  return timeout === Infinity ? LONGEST : Math.min(LONGEST, Math.max(min, timeout + positive(params.graceMs, GRACE)));
}

/** Returns whether a process with this pid exists and has not ended. */
export function isPidAlive(pid: number): boolean {
  return Number.isSafeInteger(pid) && pid > 0 && native().isAlive(pid);
}

/** Returns the start time of a process: field 22 of `/proc/<pid>/stat`. */
export function getProcessStartTime(pid: number): number | null {
  return Number.isSafeInteger(pid) && pid > 0 ? native().startTime(pid) : null;
}

/** @internal Returns a positive number, or `otherwise`. Accepts `Infinity` only if `infinity` is true. */
export function positive(value: number | undefined, otherwise: number, infinity = false): number {
  if (typeof value !== "number" || Number.isNaN(value) || value <= 0) return otherwise;
  return value === Infinity && !infinity ? otherwise : value;
}
