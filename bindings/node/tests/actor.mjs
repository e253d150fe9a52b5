// Holds locks on command, by the package that the first argument names. Answers each line with one line.
//
//     {"do":"acquire","path":..,"options":..}      {"ok":true} and the guard's facts, or {"error":{code,message,..}}
//     {"do":"release"} {"do":"check"} {"do":"exit"} {"do":"throw"} {"do":"reject"} {"do":"listen"} {"do":"end"} {"do":"block","for":ms}
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { peers } from "./helpers.mjs";

const quick = { retries: 200, factor: 1, minTimeout: 10, maxTimeout: 10 };
const payload = () => ({ pid: process.pid, createdAt: new Date().toISOString() });
const packages = {
  tenure: async () => {
    const { lock } = await import("tenure");
    return async (path, options) => {
      const held = await lock(path, options);
      const { fence, previous, lockFile } = held;
      return { release: () => held.release(), check: () => held.check(), known: { fence, previous, lockFile } };
    };
  },
  "tenure/session-write-lock": async () => {
    const { acquireSessionWriteLock } = await import("tenure/session-write-lock");
    return (sessionFile, options) => acquireSessionWriteLock({ sessionFile, ...options });
  },
  "tenure/session-write-lock/2026.6": async () => {
    const { acquireSessionWriteLock } = await import("tenure/session-write-lock/2026.6");
    return (sessionFile, options) => acquireSessionWriteLock({ sessionFile, ...options });
  },
  "tenure/file-lock": async () => {
    const { acquireFileLock } = await import("tenure/file-lock");
    return acquireFileLock;
  },
  "tenure/file-lock/2026.8": async () => {
    const { acquireFileLock } = await import("tenure/file-lock/2026.8");
    return acquireFileLock;
  },
  "tenure/proper-lockfile": async () => {
    const { lock } = await import("tenure/proper-lockfile");
    return async (path, options) => ({ release: await lock(path, { realpath: false, ...options }) });
  },
  "proper-lockfile": async () => {
    const { lock } = peers("proper-lockfile");
    return async (path, options) => ({ release: await lock(path, { realpath: false, ...options }) });
  },
  "@openclaw/fs-safe": async () => {
    const { acquireFileLock } = await import(pathToFileURL(peers.resolve("@openclaw/fs-safe/file-lock")));
    return (path, options) => acquireFileLock(path, { staleMs: 1_800_000, payload, retry: quick, ...options });
  },
};

const acquire = await packages[process.argv[2]]();
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
let held;

const verbs = {
  acquire: async ({ path, options }) => {
    held = await acquire(path, options);
    return held.known ?? {};
  },
  release: async () => void (await held.release()),
  check: () => void held.check(),
  exit: () => process.exit(7),
  throw: () => void setImmediate(() => { throw new Error("on purpose"); }),
  reject: () => void Promise.reject(new Error("on purpose")),
  listen: () => void process.on("SIGTERM", () => process.exit(7)),
  end: () => process.stdin.destroy(),
  block: ({ for: ms }) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
};

const input = createInterface({ input: process.stdin });
input.on("line", async (line) => {
  const { do: verb, ...words } = JSON.parse(line);
  try {
    say({ ok: true, ...(await verbs[verb](words)) });
  } catch (error) {
    const { code, message, path, holder, hint, lockPath } = error;
    say({ error: { code, message, path, holder, hint, lockPath } });
  }
});
