/**
 * The write lock of an OpenClaw session as it is since 2026.4.24, by the names and errors of 2026.6: a program changes one
 * import. What differs is listed in docs/from-openclaw.md of the project.
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

/** The lock stayed busy. `cause` is Tenure's own error, which says who holds it and what to do. */
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

/** The holder is older than it may be, and lives: nothing was removed. `cause` is Tenure's own error. */
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

/** The part of OpenClaw's configuration that is read. */
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

/** From the environment, else from the configuration, else `otherwise`. What is no whole number above 0 is passed over. */
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

/** Acquires the lock of a session's file. It enters again what this thread holds only with `allowReentrant`. */
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
  const asked = { path, maxHold, reentrant: params.allowReentrant ?? false };
  const end = performance.now() + timeoutMs;
  let wait = 0;
  for (;;) {
    try {
      return await session.acquire(asked, wait);
    } catch (cause) {
      if (!(cause instanceof TenureError) || cause.code !== "TENURE_BUSY") throw cause;
      const now = Date.now();
      const { holder } = cause;
      // A holder in this process is waited for, however old.
      const staleReasons = session.isHeldHere(path) ? [] : session.oldness(holder, staleMs, now);
      const owner = ownerOf(holder, now);
      if (staleReasons.length > 0) throw new SessionWriteLockStaleError({ owner, lockPath, staleReasons, cause });
      const left = end - performance.now();
      if (left <= 0) throw new SessionWriteLockTimeoutError({ timeoutMs, owner, lockPath, cause });
      wait = Math.min(left, staleIn(holder, staleMs, now));
    }
  }
}

/** When a holder that lives will be called stale. One of Tenure's own never is: its date is made new. */
function staleIn(holder: Holder | undefined, staleMs: number, now: number): number {
  const age = session.ageOf(holder, now);
  if (age === null || holder?.kind === "native") return Infinity;
  return Math.max(1, Math.min(staleMs, holder?.maxHold ?? Infinity) - age + 1);
}

function ownerOf(holder: Holder | undefined, now: number): string {
  const age = session.ageOf(holder, now);
  const who = holder?.pid === undefined ? "owner=unknown" : `pid=${holder.pid} alive=${session.isPidAlive(holder.pid)}`;
  return age === null ? who : `${who} ageMs=${Math.floor(age)}`;
}

/** Looks at every `*.jsonl.lock` in a folder, and removes those whose holders are proven dead. */
export async function cleanStaleLockFiles(
  params: session.CleanParams & { config?: Config | undefined; env?: Env | undefined },
): Promise<session.CleanResult> {
  const staleMs = session.positive(params.staleMs, resolveSessionWriteLockStaleMs(params.config, params.env));
  return session.sweep(params, { staleMs, holdExceeded: false, orphans: true });
}

/** Is there surely no process with this pid that has not ended? */
export function isPidDefinitelyDead(pid: number): boolean {
  return !session.isPidAlive(pid);
}
