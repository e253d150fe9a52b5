/**
 * The write lock of an OpenClaw session from 2026.3 to 2026.4.15. A program only changes its import. The interface of OpenClaw
 * since 2026.4.24 is `tenure/session-write-lock/2026.6`. The project's docs/from-openclaw.md lists the differences.
 */
import { TenureError } from "./errors.js";
import * as session from "./session.js";

export {
  getProcessStartTime,
  isPidAlive,
  resolveSessionLockMaxHoldFromTimeout,
  type SessionLockInspection,
  type SessionWriteLock,
} from "./session.js";

const TIMEOUT = 10_000;

/**
 * Acquires the lock of a session file. By default it is reentrant within a thread.
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
  const timeout = session.positive(params.timeoutMs, TIMEOUT, true);
  const maxHold = session.positive(params.maxHoldMs, session.MAX_HOLD);
  const path = await session.sessionPath(params.sessionFile);
  try {
    return await session.acquire({ path, maxHold, reentrant: params.allowReentrant ?? true }, timeout);
  } catch (error) {
    throw error instanceof TenureError && error.code === "TENURE_BUSY" ? locked(error, timeout, path) : error;
  }
}

function locked(error: TenureError, timeout: number, path: string): TenureError {
  const owner = error.holder?.pid === undefined ? "unknown" : `pid=${error.holder.pid}`;
  return error.withMessage(`session file locked (timeout ${timeout}ms): ${owner} ${path}.lock`);
}

/** Reports every `*.jsonl.lock` in a folder, and removes the locks of dead holders. */
export async function cleanStaleLockFiles(params: session.CleanParams): Promise<session.CleanResult> {
  const staleMs = session.positive(params.staleMs, session.STALE);
  return session.sweep(params, { staleMs, holdExceeded: true, orphans: false });
}
