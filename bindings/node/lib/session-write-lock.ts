/**
 * The write lock of an OpenClaw session, under its own names: a program changes one import. What differs is listed in
 * docs/from-openclaw.md of the project.
 */
import { readdir } from "node:fs/promises";
import { resolve } from "node:path";

import { must, TenureError } from "./errors.js";
import { lock } from "./lock.js";
import { clean, isAlive, startTime, type Swept } from "./native.js";

const TIMEOUT = 10_000;
const STALE = 30 * 60_000;
const MAX_HOLD = 5 * 60_000;
const GRACE = 2 * 60_000;
/** As long as a timer of Node can run, rounded down. */
const LONGEST = 2_147_000_000;

export interface SessionWriteLock {
  release: () => Promise<void>;
  /** A number that is greater than that of every holder before. */
  fence: number;
  /** Throws `TENURE_LOST` where the lock was taken from this holder. */
  check: () => void;
  /** Settles with the error if that happens; never, otherwise. */
  lost: Promise<TenureError>;
}

/** Acquires the lock of a session's file. */
export async function acquireSessionWriteLock(params: {
  sessionFile: string;
  timeoutMs?: number | undefined;
  staleMs?: number | undefined;
  maxHoldMs?: number | undefined;
  allowReentrant?: boolean | undefined;
}): Promise<SessionWriteLock> {
  const timeout = positive(params.timeoutMs, TIMEOUT, true);
  const maxHold = positive(params.maxHoldMs, MAX_HOLD);
  const path = resolve(params.sessionFile);
  const held = await lock(path, { timeout, maxHold, reentrant: params.allowReentrant ?? true }).catch((error) => {
    throw error instanceof TenureError && error.code === "TENURE_BUSY" ? locked(error, timeout, path) : error;
  });
  held.on("overdue", ({ heldFor }) => {
    console.warn(`[session-write-lock] held for ${Math.round(heldFor)}ms (max=${maxHold}ms): ${held.lockFile}`);
  });
  return {
    release: () => held.release(),
    fence: held.fence,
    check: () => held.check(),
    get lost() {
      return held.lost;
    },
  };
}

function locked(error: TenureError, timeout: number, path: string): TenureError {
  const owner = error.holder?.pid === undefined ? "unknown" : `pid=${error.holder.pid}`;
  error.message = `session file locked (timeout ${timeout}ms): ${owner} ${path}.lock`;
  return error;
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

/** Looks at every `*.jsonl.lock` in a folder, and removes those whose holders are proven dead. */
export async function cleanStaleLockFiles(params: {
  sessionsDir: string;
  staleMs?: number | undefined;
  removeStale?: boolean | undefined;
  nowMs?: number | undefined;
  log?: { warn?: (message: string) => void; info?: (message: string) => void } | undefined;
}): Promise<{ locks: SessionLockInspection[]; cleaned: SessionLockInspection[] }> {
  const staleMs = positive(params.staleMs, STALE);
  const now = params.nowMs ?? Date.now();
  const dir = resolve(params.sessionsDir);
  // A missing folder is an empty answer; what cannot be read is an error, as it was.
  const there = await readdir(dir).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return false;
      throw error;
    },
  );
  if (!there) return { locks: [], cleaned: [] };
  const swept = must<Swept[]>(clean(dir, ".jsonl", params.removeStale === false));
  const locks = swept.map((each) => inspection(each, staleMs, now));
  for (const { lockPath, staleReasons, removed } of locks) {
    if (removed) params.log?.warn?.(`removed stale session lock: ${lockPath} (${staleReasons.join(", ") || "unknown"})`);
  }
  return { locks, cleaned: locks.filter(({ removed }) => removed) };
}

function inspection({ found, removed }: Swept, staleMs: number, now: number): SessionLockInspection {
  const { holder } = found;
  const ageMs = holder?.createdAt === undefined ? null : Math.max(0, now - holder.createdAt);
  const tooOld = ageMs !== null && ageMs > staleMs;
  const exceeded = ageMs !== null && holder?.maxHold !== undefined && ageMs > holder.maxHold;
  // By the caller's clock and limit, in the order that they have always had.
  const byAge = new Set(["too-old", "hold-exceeded"]);
  const others = found.reasons.filter((reason) => !byAge.has(reason) && reason !== "orphan-self-pid");
  const orphan = found.reasons.filter((reason) => reason === "orphan-self-pid");
  const staleReasons = [...others, ...(tooOld ? ["too-old"] : []), ...(exceeded ? ["hold-exceeded"] : []), ...orphan];
  return {
    lockPath: found.lockFile,
    pid: holder?.pid ?? null,
    pidAlive: holder?.pid !== undefined && isPidAlive(holder.pid),
    createdAt: holder?.createdAt === undefined ? null : new Date(holder.createdAt).toISOString(),
    ageMs,
    stale: staleReasons.length > 0,
    staleReasons,
    removed,
  };
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
  return Number.isSafeInteger(pid) && pid > 0 && isAlive(pid);
}

/** When it started: field 22 of `/proc/<pid>/stat`. */
export function getProcessStartTime(pid: number): number | null {
  return Number.isSafeInteger(pid) && pid > 0 ? startTime(pid) : null;
}

function positive(value: number | undefined, otherwise: number, infinity = false): number {
  if (typeof value !== "number" || Number.isNaN(value) || value <= 0) return otherwise;
  return value === Infinity && !infinity ? otherwise : value;
}
