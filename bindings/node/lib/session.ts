// What OpenClaw's session write lock has in all its versions.
import { lstatSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";

import { native } from "./addon.js";
import { Entries } from "./entries.js";
import { must, TenureError } from "./errors.js";
import { normalized } from "./normalized.js";
import type { Holder, Swept } from "./native.js";

/** @internal */
export const STALE = 30 * 60_000;
/** @internal */
export const MAX_HOLD = 5 * 60_000;
const GRACE = 2 * 60_000;
/** As long as a timer of Node can run, rounded down. */
const LONGEST = 2_147_000_000;

export interface SessionWriteLock {
  /** Releases. A lock that was lost meanwhile is warned of; `check()` and `lost` tell the program. */
  release: () => Promise<void>;
  /** A number that is greater than that of every holder before. */
  fence: number;
  /** Throws `TENURE_LOST` where the lock was taken from this holder. */
  check: () => void;
  /** Settles with the error if that happens; never, otherwise. */
  lost: Promise<TenureError>;
}

// The versions are one lock within a thread as well: what one of them holds the other may enter.
const entries = new Entries();

/** @internal */
export interface Acquiring {
  path: string;
  maxHold: number;
  reentrant: boolean;
}

/** @internal Does this thread hold it? */
export const isHeldHere = (path: string): boolean => entries.has(path);

/** @internal `<session file>` with its folder resolved. */
export const sessionPath = normalized;

/** @internal */
export async function acquire({ path, maxHold, reentrant }: Acquiring, timeout: number): Promise<SessionWriteLock> {
  const joins = reentrant ? () => true : undefined;
  const { held, release } = await entries.enter(path, { timeout, maxHold, joins });
  if (held.listenerCount("overdue") === 0) {
    held.on("overdue", ({ heldFor }) => {
      console.warn(`[session-write-lock] held for ${Math.round(heldFor)}ms (max=${maxHold}ms): ${held.lockFile}`);
    });
  }
  return {
    release: () => release((error) => console.warn(`[session-write-lock] it was lost before its release: ${error.message}`)),
    fence: held.fence,
    check: () => held.check(),
    get lost() {
      return held.lost;
    },
  };
}

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

export interface CleanParams {
  sessionsDir: string;
  staleMs?: number | undefined;
  removeStale?: boolean | undefined;
  nowMs?: number | undefined;
  log?: { warn?: (message: string) => void; info?: (message: string) => void } | undefined;
}

export interface CleanResult {
  locks: SessionLockInspection[];
  cleaned: SessionLockInspection[];
}

/** @internal How the versions differ in what they call stale at a sweep. */
export interface Rules {
  staleMs: number;
  /** Is a lock file whose `maxHoldMs` is over called `hold-exceeded`? */
  holdExceeded: boolean;
  /** Is one with this process's own pid and start time called `orphan-self-pid`? */
  orphans: boolean;
}

/** @internal */
export async function sweep(params: CleanParams, rules: Rules): Promise<CleanResult> {
  const now = params.nowMs ?? Date.now();
  const dir = resolve(params.sessionsDir);
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const swept = names.length > 0 ? must<Swept[]>(native().clean(dir, ".jsonl", params.removeStale === false)) : [];
  const found = new Map(swept.map((each) => [each.found.lockFile, inspection(each, rules, now)]));
  for (const name of names.filter((name) => name.endsWith(".jsonl.lock"))) {
    const lockPath = join(dir, name);
    // What is no lock is reported, and stays.
    if (!found.has(lockPath) && isThere(lockPath)) found.set(lockPath, noLock(lockPath));
  }
  const locks = [...found.values()].sort((one, other) => one.lockPath.localeCompare(other.lockPath));
  for (const { lockPath, staleReasons, removed } of locks) {
    if (removed) params.log?.warn?.(`removed stale session lock: ${lockPath} (${staleReasons.join(", ") || "unknown"})`);
  }
  return { locks, cleaned: locks.filter(({ removed }) => removed) };
}

/** A link that leads nowhere is there. */
function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function noLock(lockPath: string): SessionLockInspection {
  const staleReasons = ["missing-pid", "invalid-createdAt"];
  return { lockPath, pid: null, pidAlive: false, createdAt: null, ageMs: null, stale: true, staleReasons, removed: false };
}

function inspection({ found, removed }: Swept, rules: Rules, now: number): SessionLockInspection {
  const { holder } = found;
  const ageMs = ageOf(holder, now);
  // By the caller's clock and limit, in the order that they have always had.
  const reasons = found.reasons.filter((reason) => !["too-old", "hold-exceeded", "orphan-self-pid"].includes(reason));
  reasons.push(...oldness(holder, rules.staleMs, now).filter((reason) => rules.holdExceeded || reason === "too-old"));
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

/** @internal How old a holder's record is; none where it has no date. */
export function ageOf(holder: Holder | undefined, now: number): number | null {
  return holder?.createdAt === undefined ? null : Math.max(0, now - holder.createdAt);
}

/** @internal For what a holder is called stale although it lives. */
export function oldness(holder: Holder | undefined, staleMs: number, now: number): string[] {
  const age = ageOf(holder, now);
  if (age === null) return [];
  const exceeded = holder?.maxHold !== undefined && age > holder.maxHold;
  return [...(age > staleMs ? ["too-old"] : []), ...(exceeded ? ["hold-exceeded"] : [])];
}

/** From a run's timeout, how long it may hold. */
export function resolveSessionLockMaxHoldFromTimeout(params: {
  timeoutMs: number;
  graceMs?: number | undefined;
  minMs?: number | undefined;
}): number {
  const min = positive(params.minMs, MAX_HOLD);
  const timeout = positive(params.timeoutMs, min, true);
  return timeout === Infinity ? LONGEST : Math.min(LONGEST, Math.max(min, timeout + positive(params.graceMs, GRACE)));
}

/** Is there a process with this pid that has not ended? */
export function isPidAlive(pid: number): boolean {
  return Number.isSafeInteger(pid) && pid > 0 && native().isAlive(pid);
}

/** When it started: field 22 of `/proc/<pid>/stat`. */
export function getProcessStartTime(pid: number): number | null {
  return Number.isSafeInteger(pid) && pid > 0 ? native().startTime(pid) : null;
}

/** @internal */
export function positive(value: number | undefined, otherwise: number, infinity = false): number {
  if (typeof value !== "number" || Number.isNaN(value) || value <= 0) return otherwise;
  return value === Infinity && !infinity ? otherwise : value;
}
