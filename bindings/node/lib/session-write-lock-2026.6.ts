/**
 * The write lock of an OpenClaw session since 2026.4.24, with the errors of 2026.6. A program only changes its import. The
 * project's docs/from-openclaw.md lists the differences.
 */
import { TenureError } from "./errors.js";
import type { Holder } from "./native.js";
import * as session from "./session.js";

export {
  getProcessStartTime,
  isPidAlive,
  resolveSessionLockMaxHoldFromTimeout,
  type SessionLockInspection,
  type SessionWriteLock,
} from "./session.js";

export const SESSION_WRITE_LOCK_TIMEOUT_CODE = "OPENCLAW_SESSION_WRITE_LOCK_TIMEOUT";
export const SESSION_WRITE_LOCK_STALE_CODE = "OPENCLAW_SESSION_WRITE_LOCK_STALE";

/** The lock stayed held until the timeout. `cause` is the `TenureError`, with the holder and a hint. */
export class SessionWriteLockTimeoutError extends Error {
  override readonly name: string = "SessionWriteLockTimeoutError";
  readonly code = SESSION_WRITE_LOCK_TIMEOUT_CODE;
  readonly timeoutMs: number;
  readonly owner: string;
  readonly lockPath: string;

  constructor(params: { timeoutMs: number; owner: string; lockPath: string; cause?: unknown }) {
    const { timeoutMs, owner, lockPath, cause } = params;
    super(`session file locked (timeout ${timeoutMs}ms): ${owner} ${lockPath}`, cause === undefined ? {} : { cause });
    this.timeoutMs = timeoutMs;
    this.owner = owner;
    this.lockPath = lockPath;
  }
}

/** The live holder exceeds an age limit. Nothing was removed. `cause` is the `TenureError`. */
export class SessionWriteLockStaleError extends Error {
  override readonly name: string = "SessionWriteLockStaleError";
  readonly code = SESSION_WRITE_LOCK_STALE_CODE;
  readonly owner: string;
  readonly lockPath: string;
  readonly staleReasons: string[];

  constructor(params: { owner: string; lockPath: string; staleReasons?: string[]; cause?: unknown }) {
    const { owner, lockPath, cause } = params;
    const staleReasons = params.staleReasons?.length ? params.staleReasons : ["unknown"];
    const text = `session file lock stale (${staleReasons.join(", ")}): ${owner} ${lockPath}`;
    super(text, cause === undefined ? {} : { cause });
    this.owner = owner;
    this.lockPath = lockPath;
    this.staleReasons = staleReasons;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return typeof error === "object" && error !== null && (error as { code?: unknown }).code === code;
}

export function isSessionWriteLockTimeoutError(error: unknown): boolean {
  return hasCode(error, SESSION_WRITE_LOCK_TIMEOUT_CODE);
}

export function isSessionWriteLockStaleError(error: unknown): boolean {
  return hasCode(error, SESSION_WRITE_LOCK_STALE_CODE);
}

export function isSessionWriteLockAcquireError(error: unknown): boolean {
  return isSessionWriteLockTimeoutError(error) || isSessionWriteLockStaleError(error);
}

/** The part of OpenClaw's configuration that this package reads. */
export interface SessionWriteLockAcquireTimeoutConfig {
  session?: {
    writeLock?: {
      acquireTimeoutMs?: number | undefined;
      staleMs?: number | undefined;
      maxHoldMs?: number | undefined;
    } | undefined;
  } | undefined;
}

type Config = SessionWriteLockAcquireTimeoutConfig;
type Env = Record<string, string | undefined>;

const TIMEOUT = 60_000;
const VARIABLES = {
  acquireTimeoutMs: "OPENCLAW_SESSION_WRITE_LOCK_ACQUIRE_TIMEOUT_MS",
  staleMs: "OPENCLAW_SESSION_WRITE_LOCK_STALE_MS",
  maxHoldMs: "OPENCLAW_SESSION_WRITE_LOCK_MAX_HOLD_MS",
} as const;

/** Returns a setting from the environment, the configuration or `otherwise`. Ignores values that are not positive integers. */
function setting(key: keyof typeof VARIABLES, otherwise: number, config?: Config, env: Env = process.env): number {
  const allowed = (value: unknown): value is number =>
    (Number.isSafeInteger(value) && (value as number) > 0) || (value === Infinity && key === "acquireTimeoutMs");
  const text = env[VARIABLES[key]]?.trim() ?? "";
  const fromEnv = text === "Infinity" ? Infinity : /^\d+$/.test(text) ? Number(text) : undefined;
  return [fromEnv, config?.session?.writeLock?.[key]].find(allowed) ?? otherwise;
}

export function resolveSessionWriteLockAcquireTimeoutMs(config?: Config, env?: Env): number {
  return setting("acquireTimeoutMs", TIMEOUT, config, env);
}

export function resolveSessionWriteLockStaleMs(config?: Config, env?: Env): number {
  return setting("staleMs", session.STALE, config, env);
}

export function resolveSessionWriteLockOptions(
  config?: Config,
  params: { env?: Env | undefined; maxHoldMsFallback?: number | undefined } = {},
): { timeoutMs: number; staleMs: number; maxHoldMs: number } {
  const { env, maxHoldMsFallback } = params;
  return {
    timeoutMs: resolveSessionWriteLockAcquireTimeoutMs(config, env),
    staleMs: resolveSessionWriteLockStaleMs(config, env),
    maxHoldMs: setting("maxHoldMs", maxHoldMsFallback ?? session.MAX_HOLD, config, env),
  };
}

/**
 * Acquires the lock of a session file. It is reentrant within a thread only with `allowReentrant`.
 *
 * @example
 * const { release } = await acquireSessionWriteLock({ sessionFile: "sessions/main.jsonl" });
 */
export async function acquireSessionWriteLock(params: {
  sessionFile: string;
  timeoutMs?: number | undefined;
  staleMs?: number | undefined;
  maxHoldMs?: number | undefined;
  allowReentrant?: boolean | undefined;
}): Promise<session.SessionWriteLock> {
  const defaults = resolveSessionWriteLockOptions();
  const timeoutMs = session.positive(params.timeoutMs, defaults.timeoutMs, true);
  const staleMs = session.positive(params.staleMs, defaults.staleMs);
  const maxHold = session.positive(params.maxHoldMs, defaults.maxHoldMs);
  const path = await session.sessionPath(params.sessionFile);
  const lockPath = `${path}.lock`;
  const request = { path, maxHold, reentrant: params.allowReentrant ?? false };
  const end = performance.now() + timeoutMs;
  let wait = 0;
  for (;;) {
    try {
      return await session.acquire(request, wait);
    } catch (cause) {
      if (!(cause instanceof TenureError) || cause.code !== "TENURE_BUSY") throw cause;
      const now = Date.now();
      const { holder } = cause;
      // A holder in this thread is never reported as stale.
      const staleReasons = session.isHeldHere(path) ? [] : session.ageReasons(holder, staleMs, now);
      const owner = ownerOf(holder, now);
      if (staleReasons.length > 0) throw new SessionWriteLockStaleError({ owner, lockPath, staleReasons, cause });
      const left = end - performance.now();
      if (left <= 0) throw new SessionWriteLockTimeoutError({ timeoutMs, owner, lockPath, cause });
      wait = Math.min(left, staleIn(holder, staleMs, now));
    }
  }
}

/** Returns when a live holder will be reported as stale. A holder that uses Tenure never is, as it updates its date. */
function staleIn(holder: Holder | undefined, staleMs: number, now: number): number {
  const age = session.ageOf(holder, now);
  if (age === null || holder?.kind === "native") return Infinity;
  return Math.max(1, Math.min(staleMs, holder?.maxHold ?? Infinity) - age + 1);
}

function ownerOf(holder: Holder | undefined, now: number): string {
  const age = session.ageOf(holder, now);
  const owner = holder?.pid === undefined ? "owner=unknown" : `pid=${holder.pid} alive=${session.isPidAlive(holder.pid)}`;
  return age === null ? owner : `${owner} ageMs=${Math.floor(age)}`;
}

/** Reports every `*.jsonl.lock` in a folder, and removes the locks of dead holders. */
export async function cleanStaleLockFiles(
  params: session.CleanParams & { config?: Config | undefined; env?: Env | undefined },
): Promise<session.CleanResult> {
  const staleMs = session.positive(params.staleMs, resolveSessionWriteLockStaleMs(params.config, params.env));
  return session.sweep(params, { staleMs, holdExceeded: false, orphans: true });
}

/** Returns whether no process with this pid exists, or only one that has ended. */
export function isPidDefinitelyDead(pid: number): boolean {
  return !session.isPidAlive(pid);
}
