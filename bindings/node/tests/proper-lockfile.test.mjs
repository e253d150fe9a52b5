// The public behaviour of proper-lockfile, tested for the package and for ours. docs/from-proper-lockfile.md lists each
// difference that a test names.
import { strict as assert } from "node:assert";
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, rmdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import named, * as module from "tenure/proper-lockfile";

import { Actor, awake, folder, peers } from "./helpers.mjs";

const packages = { "proper-lockfile": peers("proper-lockfile"), "tenure/proper-lockfile": named };

function target(t) {
  const path = `${folder(t)}/t`;
  writeFileSync(path, "");
  return path;
}

test("the module is a function with the others as properties, and exports them", () => {
  for (const name of ["lock", "unlock", "check", "lockSync", "unlockSync", "checkSync"]) {
    assert.equal(typeof packages["proper-lockfile"][name], "function");
    assert.equal(named[name], module[name]);
  }
  assert.equal(named, named.lock);
});

for (const [name, lockfile] of Object.entries(packages)) {
  const isOurs = name.startsWith("tenure");
  const is = (what, run) => test(`${name}: ${what}`, run);
  const remove = (path) => (isOurs ? rmSync(`${path}.lock`) : rmdirSync(`${path}.lock`));

  is("a lock is held until its release", async (t) => {
    const path = target(t);
    const release = await lockfile.lock(path);
    assert(existsSync(`${path}.lock`));
    assert.equal(lstatSync(`${path}.lock`).isDirectory(), !isOurs, "a difference: ours is a file that names the holder");
    assert.equal(await lockfile.check(path), true);
    assert.equal(await release(), undefined);
    assert(!existsSync(`${path}.lock`));
    assert.equal(await lockfile.check(path), false);
  });

  is("the module itself locks", async (t) => {
    const path = target(t);
    await (await lockfile(path))();
    assert.equal(lockfile.checkSync(path), false);
  });

  is("a second acquire is ELOCKED, with the file", async (t) => {
    const path = target(t);
    const release = await lockfile.lock(path);
    await assert.rejects(lockfile.lock(path), { code: "ELOCKED", message: "Lock file is already being held", file: path });
    await assert.rejects(lockfile.lock(path, { stale: 0 }), { code: "ELOCKED" });
    await release();
  });

  is("a second release is ERELEASED", async (t) => {
    const path = target(t);
    const release = await lockfile.lock(path);
    await release();
    await assert.rejects(release(), { code: "ERELEASED", message: "Lock is already released" });
    const other = await lockfile.lock(path);
    await lockfile.unlock(path);
    await assert.rejects(other(), { code: "ERELEASED" });
  });

  is("unlock releases the lock of this process, by its file", async (t) => {
    const path = target(t);
    const error = { code: "ENOTACQUIRED", message: "Lock is not acquired/owned by you" };
    await assert.rejects(lockfile.unlock(path), error);
    await lockfile.lock(path);
    assert.equal(await lockfile.unlock(path), undefined);
    await assert.rejects(lockfile.unlock(path), error);
    assert(!existsSync(`${path}.lock`));
    const other = new Actor(t, name);
    await other.must("acquire", { path });
    await assert.rejects(lockfile.unlock(path), error);
    assert.equal(await lockfile.check(path), true);
    await other.kill();
  });

  is("the file must exist by default", async (t) => {
    const path = `${folder(t)}/missing`;
    for (const call of [lockfile.lock, lockfile.unlock, lockfile.check]) {
      await assert.rejects(call(path), { code: "ENOENT" });
    }
    await (await lockfile.lock(path, { realpath: false }))();
    assert.equal(await lockfile.check(path, { realpath: false }), false);
    assert(!existsSync(path));
  });

  is("a missing folder is not created", async (t) => {
    const path = `${folder(t)}/none/t`;
    // A difference: the code is ours, and `errno` has the system's number.
    const expected = isOurs ? { code: "TENURE_CANNOT_CREATE", errno: 2 } : { code: "ENOENT" };
    await assert.rejects(lockfile.lock(path, { realpath: false }), expected);
    assert(!existsSync(`${path}/..`));
  });

  is("links lead to what they point to", async (t) => {
    const path = target(t);
    symlinkSync(path, `${path}-link`);
    const release = await lockfile.lock(`${path}-link`);
    assert(existsSync(`${path}.lock`) && !existsSync(`${path}-link.lock`));
    await assert.rejects(lockfile.lock(path), { code: "ELOCKED" });
    await release();
    await (await lockfile.lock(`${path}-link`, { realpath: false }))();
  });

  is("another lock file's name", async (t) => {
    const path = target(t);
    const lockfilePath = `${path}-other.lock`;
    const release = await lockfile.lock(path, { lockfilePath });
    assert(existsSync(lockfilePath) && !existsSync(`${path}.lock`));
    assert.equal(await lockfile.check(path, { lockfilePath }), true);
    assert.equal(await lockfile.check(path), false);
    await release();
    assert(!existsSync(lockfilePath));
    const odd = lockfile.lock(path, { lockfilePath: `${path}.held` });
    // A difference: ours ends in `.lock`.
    if (isOurs) await assert.rejects(odd, TypeError);
    else await (await odd)();
  });

  is("retries wait, and end", async (t) => {
    const path = target(t);
    const release = await lockfile.lock(path);
    const begun = performance.now();
    await assert.rejects(lockfile.lock(path, { retries: { retries: 2, minTimeout: 20, factor: 1 } }), { code: "ELOCKED" });
    assert(performance.now() - begun >= 39);
    const waiting = lockfile.lock(path, { retries: { retries: 1000, minTimeout: 5, maxTimeout: 5 } });
    await release();
    await (await waiting)();
    const forever = lockfile.lock(path, { retries: { forever: true, minTimeout: 5, maxTimeout: 5 } });
    await (await forever)();
  });

  // A difference: the package throws the error where it cannot be caught.
  if (isOurs) is("impossible pauses", async (t) => {
    const path = target(t);
    const wrong = { message: "minTimeout is greater than maxTimeout" };
    await assert.rejects(lockfile.lock(path, { retries: { minTimeout: 2, maxTimeout: 1 } }), wrong);
    await assert.rejects(lockfile.lock(path, { retries: [1, 2] }), TypeError);
    assert(!existsSync(`${path}.lock`));
  });

  is("forever repeats the same pauses", async (t) => {
    const path = target(t);
    mkdirSync(`${path}.lock`);
    const forever = { forever: true, retries: 1, factor: 1e9, minTimeout: 1 };
    const waiting = lockfile.lock(path, { retries: forever });
    // The second pause would take days.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    rmdirSync(`${path}.lock`);
    await (await waiting)();
  });

  is("realpath: undefined turns it off", async (t) => {
    const path = `${folder(t)}/missing`;
    await (await lockfile.lock(path, { realpath: undefined }))();
  });

  is("synchronous", async (t) => {
    const path = target(t);
    const release = lockfile.lockSync(path);
    assert.equal(lockfile.checkSync(path), true);
    assert.throws(() => lockfile.lockSync(path), { code: "ELOCKED" });
    assert.throws(() => lockfile.lockSync(path, { retries: 1 }), { code: "ESYNC" });
    assert.throws(() => lockfile.lockSync(path, { retries: { retries: 1 } }), { code: "ESYNC" });
    assert.equal(release(), undefined);
    assert.throws(release, { code: "ERELEASED" });
    lockfile.lockSync(path);
    lockfile.unlockSync(path);
    assert.throws(() => lockfile.unlockSync(path), { code: "ENOTACQUIRED" });
    assert.equal(lockfile.checkSync(path), false);
    assert.throws(() => lockfile.lockSync(`${path}-none`), { code: "ENOENT" });
  });

  is("a removed lock file is ECOMPROMISED", async (t) => {
    awake(t);
    const path = target(t);
    const reported = new Promise((resolve) => {
      void lockfile.lock(path, { stale: 2000, update: 1000, onCompromised: resolve }).then(() => remove(path));
    });
    assert.equal((await reported).code, "ECOMPROMISED");
    await assert.rejects(lockfile.unlock(path), { code: "ENOTACQUIRED" });
  });

  is("a compromised lock can be acquired again, in the handler too", async (t) => {
    awake(t);
    const path = target(t);
    const again = new Promise((resolve, reject) => {
      const onCompromised = () => lockfile.lock(path).then(resolve, reject);
      void lockfile.lock(path, { stale: 2000, update: 1000, onCompromised }).then(() => remove(path));
    });
    const release = await again;
    const other = new Actor(t, name);
    assert.equal((await other.ask("acquire", { path })).error.code, "ELOCKED");
    await release();
    await other.must("acquire", { path });
    await other.must("release");
  });

  is("a compromised lock excludes no other process", async (t) => {
    awake(t);
    const path = target(t);
    await new Promise((onCompromised) => {
      void lockfile.lock(path, { stale: 2000, update: 1000, onCompromised }).then(() => remove(path));
    });
    const other = new Actor(t, name);
    await other.must("acquire", { path });
    await other.must("release");
  });

  is("a release of a lost lock is not an error", async (t) => {
    const path = target(t);
    for (const release of [await lockfile.lock(path), () => lockfile.unlock(path)]) {
      if (!(await lockfile.check(path))) await lockfile.lock(path);
      remove(path);
      await release();
      assert.equal(await lockfile.check(path), false);
    }
  });

  is("compromised without a handler is an uncaught exception", (t) => {
    const path = target(t);
    const script = fileURLToPath(new URL("compromised.mjs", import.meta.url));
    const { status, stderr } = spawnSync(process.execPath, [script, name, path], { encoding: "utf8" });
    assert.equal(status, 1);
    assert.match(stderr, /ECOMPROMISED/);
  });

  is("an old lock file", async (t) => {
    const path = target(t);
    mkdirSync(`${path}.lock`);
    utimesSync(`${path}.lock`, 1, 1);
    // A difference: the package removes any old lock file, ours only that of a dead holder.
    assert.equal(await lockfile.check(path), isOurs);
    if (isOurs) await assert.rejects(lockfile.lock(path), { code: "ELOCKED" });
    else await (await lockfile.lock(path))();
  });

  is("a stopped holder loses the lock, or not", async (t) => {
    const path = target(t);
    const holder = new Actor(t, name);
    await holder.must("acquire", { path, options: { stale: 2000 } });
    holder.child.kill("SIGSTOP");
    utimesSync(`${path}.lock`, 1, 1);
    const taken = lockfile.lock(path, { stale: 2000 });
    // A difference: ours does not judge by age.
    if (isOurs) await assert.rejects(taken, { code: "ELOCKED" });
    else await (await taken)();
  });

  is("a holder that was killed", async (t) => {
    const path = target(t);
    const holder = new Actor(t, name);
    await holder.must("acquire", { path });
    await holder.kill();
    assert(existsSync(`${path}.lock`));
    // A difference: ours detects the death immediately.
    assert.equal(await lockfile.check(path), !isOurs);
    if (isOurs) await (await lockfile.lock(path))();
    else await assert.rejects(lockfile.lock(path), { code: "ELOCKED" });
  });

  is("process.exit() and SIGTERM remove it", async (t) => {
    const path = target(t);
    for (const end of [(actor) => actor.tell("exit"), (actor) => actor.child.kill("SIGTERM")]) {
      const holder = new Actor(t, name);
      await holder.must("acquire", { path });
      end(holder);
      await holder.ended;
      assert(!existsSync(`${path}.lock`));
    }
  });

  is("a file that is not a lock", async (t) => {
    const path = target(t);
    writeFileSync(`${path}.lock`, "# a user's own\n");
    // A difference, in the code only.
    await assert.rejects(lockfile.lock(path), { code: isOurs ? "TENURE_OBSTRUCTED" : "ELOCKED" });
    utimesSync(`${path}.lock`, 1, 1);
    await assert.rejects(lockfile.lock(path), { code: isOurs ? "TENURE_OBSTRUCTED" : "ENOTDIR" });
    assert(existsSync(`${path}.lock`));
  });

  is("a file system of the caller's own", async (t) => {
    const path = target(t);
    const fs = { ...(await import("node:fs")).default };
    // A difference: ours can only lock files of the kernel.
    if (isOurs) await assert.rejects(lockfile.lock(path, { fs }), { code: "ENOTSUP" });
    else await (await lockfile.lock(path, { fs }))();
  });
}
