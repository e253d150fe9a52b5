// Programs that only know lock files exclude every interface of this package, and are excluded. Each is a process.
import { strict as assert } from "node:assert";
import { existsSync, lstatSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { test } from "node:test";

import lockfile from "tenure/proper-lockfile";

import { Actor, folder, peers, until } from "./helpers.mjs";

const ours = [
  "tenure",
  "tenure/session-write-lock",
  "tenure/session-write-lock/2026.6",
  "tenure/file-lock",
  "tenure/file-lock/2026.8",
  "tenure/proper-lockfile",
];
// The options of a single attempt.
const once = {
  tenure: { timeout: 0 },
  "tenure/session-write-lock": { timeoutMs: 1 },
  "tenure/session-write-lock/2026.6": { timeoutMs: 1 },
  "tenure/file-lock": { retries: { retries: 0 } },
  "tenure/file-lock/2026.8": { retries: { retries: 0 } },
  "tenure/proper-lockfile": { retries: 0 },
  "proper-lockfile": { retries: 0 },
  "@openclaw/fs-safe": { retry: { retries: 0 } },
};
const codes = {
  tenure: "TENURE_BUSY",
  "tenure/session-write-lock": "TENURE_BUSY",
  "tenure/session-write-lock/2026.6": "OPENCLAW_SESSION_WRITE_LOCK_TIMEOUT",
  "tenure/file-lock": "file_lock_timeout",
  "tenure/file-lock/2026.8": "file_lock_timeout",
  "tenure/proper-lockfile": "ELOCKED",
  "proper-lockfile": "ELOCKED",
  "@openclaw/fs-safe": "file_lock_timeout",
};

for (const one of ours) {
  for (const other of [...ours, "proper-lockfile", "@openclaw/fs-safe"]) {
    test(`${one} and ${other} exclude each other`, async (t) => {
      const path = `${folder(t)}/t`;
      const [a, b] = [new Actor(t, one), new Actor(t, other)];
      // The other interfaces fail for the directory that proper-lockfile makes, and name it.
      const directory = other === "proper-lockfile" && one !== "tenure/proper-lockfile";
      for (const [holder, waiter, name] of [[a, b, other], [b, a, one]]) {
        await holder.must("acquire", { path });
        const { error } = await waiter.ask("acquire", { path, options: once[name] });
        assert.equal(error?.code, directory && waiter === a ? "TENURE_OBSTRUCTED" : codes[name]);
        await holder.must("release");
        assert(!existsSync(`${path}.lock`));
        await waiter.must("acquire", { path });
        await waiter.must("release");
        assert(!existsSync(`${path}.lock`));
      }
    });
  }
}

test("the error for proper-lockfile's directory names it, and leaves it", async (t) => {
  const path = `${folder(t)}/t`;
  const theirs = new Actor(t, "proper-lockfile");
  await theirs.must("acquire", { path });
  const { error } = await new Actor(t).ask("acquire", { path, options: { timeout: 1000 } });
  assert.match(error.message, /a folder occupies the lock file's path/);
  assert(lstatSync(`${path}.lock`).isDirectory());
  await theirs.must("release");
});

test("a directory that a dead proper-lockfile left is never removed", async (t) => {
  const path = `${folder(t)}/t`;
  mkdirSync(`${path}.lock`);
  utimesSync(`${path}.lock`, 1, 1);
  const { error } = await new Actor(t, "tenure/proper-lockfile").ask("acquire", { path });
  assert.equal(error.code, "ELOCKED");
  assert.equal(await lockfile.check(path, { realpath: false }), true);
  // The package itself takes it over.
  const theirs = new Actor(t, "proper-lockfile");
  await theirs.must("acquire", { path });
  await theirs.must("release");
});

test("proper-lockfile never removes our lock: a young one is held, an old one is an error", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  const theirs = peers("proper-lockfile");
  await assert.rejects(theirs.lock(path, { realpath: false }), { code: "ELOCKED" });
  // As after ten seconds by an interface that does not update the date.
  utimesSync(`${path}.lock`, 1, 1);
  await assert.rejects(theirs.lock(path, { realpath: false }), { code: "ENOTDIR" });
  assert(lstatSync(`${path}.lock`).isFile());
  await holder.must("check");
  await holder.must("release");
});

test("tenure/proper-lockfile keeps its file young, also with a busy event loop", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t, "tenure/proper-lockfile");
  await holder.must("acquire", { path, options: { stale: 10_000, update: 1000 } });
  utimesSync(`${path}.lock`, 1, 1);
  holder.tell("block", { for: 3000 });
  await until(() => lstatSync(`${path}.lock`).mtimeMs > 1_000_000);
  // A process that a busy machine does not run for some seconds cannot update its file either.
  const { error } = await new Actor(t, "proper-lockfile").ask("acquire", { path, options: { stale: 10_000 } });
  assert.equal(error.code, "ELOCKED");
  await holder.hear();
  await holder.must("release");
});

test("tenure/proper-lockfile waits for the removal of the package's directory", async (t) => {
  const path = `${folder(t)}/t`;
  const [theirs, waiter] = [new Actor(t, "proper-lockfile"), new Actor(t, "tenure/proper-lockfile")];
  await theirs.must("acquire", { path });
  const waiting = waiter.ask("acquire", { path, options: { retries: { retries: 1000, factor: 1, minTimeout: 10 } } });
  // The anchor's folder appears once the waiter has checked.
  await until(() => existsSync(`${path.slice(0, -2)}/.tenure/t.lock`));
  await theirs.must("release");
  assert.equal((await waiting).ok, true);
  assert(lstatSync(`${path}.lock`).isFile());
  await waiter.must("release");
});

test("fs-safe calls our lock old only if its date is not updated, and then fails", async (t) => {
  const path = `${folder(t)}/t`;
  const holder = new Actor(t, "tenure/file-lock");
  await holder.must("acquire", { path, options: { stale: 600 } });
  const { createdAt } = JSON.parse(readFileSync(`${path}.lock`, "utf8"));
  await until(() => JSON.parse(readFileSync(`${path}.lock`, "utf8")).createdAt !== createdAt);
  await holder.must("release");
  const plain = new Actor(t);
  await plain.must("acquire", { path });
  const theirs = new Actor(t, "@openclaw/fs-safe");
  await until(async () => {
    const { error } = await theirs.ask("acquire", { path, options: { staleMs: 10, retry: { retries: 0 } } });
    return error.code === "file_lock_stale";
  });
  await plain.must("check");
  await plain.must("release");
});

test("the file of a killed holder excludes proper-lockfile until one of ours has acquired", async (t) => {
  const path = `${folder(t)}/t`;
  const theirs = peers("proper-lockfile");
  const holder = new Actor(t);
  await holder.must("acquire", { path });
  await holder.kill();
  await assert.rejects(theirs.lock(path, { realpath: false }), { code: "ELOCKED" });
  utimesSync(`${path}.lock`, 1, 1);
  await assert.rejects(theirs.lock(path, { realpath: false }), { code: "ENOTDIR" });
  const next = new Actor(t);
  await next.must("acquire", { path });
  await next.must("release");
  await (await theirs.lock(path, { realpath: false }))();
});

test("a lock file that names no process is kept", async (t) => {
  const path = `${folder(t)}/t`;
  writeFileSync(`${path}.lock`, JSON.stringify({ owner: "somebody" }));
  utimesSync(`${path}.lock`, 1, 1);
  const { error } = await new Actor(t, "tenure/file-lock").ask("acquire", { path, options: once["tenure/file-lock"] });
  assert.equal(error.code, "TENURE_OBSTRUCTED");
  assert(existsSync(`${path}.lock`));
});

test("the lock file of a killed fs-safe is taken over immediately", async (t) => {
  const path = `${folder(t)}/t`;
  const theirs = new Actor(t, "@openclaw/fs-safe");
  await theirs.must("acquire", { path });
  await theirs.kill();
  const next = new Actor(t);
  const { previous } = await next.must("acquire", { path, options: { timeout: 0 } });
  assert.equal(previous.holder.pid, theirs.pid);
  assert.equal(previous.holder.kind, "foreign");
  await next.must("release");
});

test("a file that is not a lock is never changed", async (t) => {
  const path = `${folder(t)}/yarn`;
  writeFileSync(`${path}.lock`, "# yarn lockfile v1\n");
  for (const name of ours) {
    const { error } = await new Actor(t, name).ask("acquire", { path, options: once[name] });
    assert.equal(error.code, "TENURE_OBSTRUCTED", name);
  }
  assert.equal(readFileSync(`${path}.lock`, "utf8"), "# yarn lockfile v1\n");
});
