// Processes that hold locks and slots on real servers, or wait for them, and how they end.
import { strict as assert } from "node:assert";
import { after, describe, test } from "node:test";

import { lock, status } from "tenure";

import { Actor, awake, until } from "./helpers.mjs";
import { Etcd, Postgres, skips } from "./servers.mjs";

/** A lease that outlasts the test, so that only a release or a proof of death frees the lock. */
const LONG = 600;
/** A lease that the test waits out: long enough for calls on a slow machine. */
const SHORT = 9;
/** The end of a test that fails. */
const timeout = 120_000;
let count = 0;

/** The ends of a process: how it is told, and what its parent sees. Those in the middle of a hold are crashes. */
const ENDINGS = {
  "the end of its work": { verb: "end", code: 0, crashes: false },
  "process.exit()": { verb: "exit", code: 7 },
  "an uncaught exception": { verb: "throw", code: 1 },
  "an unhandled rejection": { verb: "reject", code: 1 },
  "SIGTERM, which it exits by": { verb: "listen", signal: "SIGTERM", code: 7 },
  SIGTERM: { signal: "SIGTERM" },
  SIGINT: { signal: "SIGINT" },
  SIGHUP: { signal: "SIGHUP" },
  SIGKILL: { signal: "SIGKILL" },
};

/** Ends a process, and checks what its parent sees. */
async function end(actor, { verb, signal, code = null }) {
  if (signal && verb) await actor.must(verb);
  else if (verb) actor.tell(verb);
  if (signal) actor.child.kill(signal);
  assert.deepEqual(await actor.ended, { code, signal: code === null ? signal : null }, actor.stderr);
}

for (const [kind, Kind] of [["etcd", Etcd], ["postgres", Postgres]]) {
  describe(`on ${kind}`, { skip: skips[kind], concurrency: 4 }, () => {
    let starting;
    after(async () => (await starting)?.end());
    const on = (what, run) =>
      test(what, async (t) => {
        awake(t);
        await run({ t, server: await (starting ??= Kind.start()), name: `n${count++}/main` });
      });
    if (kind === "postgres") {
      on("a holder that dies after its session has ended is not waited for", async ({ t, server, name }) => {
        const [actor, target] = [new Actor(t), server.target(name, LONG)];
        await actor.must("acquire", { path: target });
        const waiting = lock(target, { timeout });
        await until(async () => (await status(target)).waiters === 1);
        // It lives, so the waiter, which gets the server's lock now, must wait for the lease.
        actor.child.kill("SIGSTOP");
        assert(server.endHold(name));
        await until(async () => (await status(target)).waiters === 0);
        await actor.kill();
        const held = await waiting;
        assert.deepEqual([held.previous.crashed, held.previous.holder?.pid], [true, actor.pid]);
        await held.release();
      });
    }

    /** The lease of a process that ends without a release. PostgreSQL's next holder proves its death, on this machine. */
    const unreleased = kind === "etcd" ? SHORT : LONG;

    for (const [how, ending] of Object.entries(ENDINGS)) {
      const { crashes = true } = ending;
      for (const slots of [undefined, 1]) {
        on(`${how} frees ${slots ? "a slot" : "a lock"}, ${crashes ? "as a crash" : "by a release"}`, async ({ t, server, name }) => {
          const actor = new Actor(t);
          const path = server.target(name, crashes ? unreleased : LONG);
          const { fence } = await actor.must("acquire", { path, options: { slots, label: "ending" } });
          const waiting = lock(server.target(name, LONG), { slots, timeout });
          await end(actor, ending);
          const held = await waiting;
          assert(held.fence > fence);
          assert.deepEqual([held.slot, held.previous.crashed], [slots && 0, crashes]);
          if (crashes) assert.deepEqual([held.previous.holder.pid, held.previous.holder.label], [actor.pid, "ending"]);
          held.check();
          await held.release();
          const next = await lock(server.target(name, LONG), { slots, timeout });
          assert.equal(next.previous.crashed, false);
          await next.release();
        });
      }

      // A wait keeps a process alive.
      if (!crashes) continue;
      on(`${how} in a wait for a slot leaves nothing`, async ({ t, server, name }) => {
        const held = await lock(server.target(name, LONG), { slots: 1 });
        const actor = new Actor(t);
        // What a signal kills says nothing to the server, whose status then shows a place that was cut off.
        const [lease, left] = ending.code === undefined ? [SHORT, "stale"] : [LONG, "free"];
        actor.tell("acquire", { path: server.target(name, lease), options: { slots: 1 } });
        // It has the place of the first waiter, and one in the queue of the slot.
        const [first, slot] = [`${name}.next`, `${name}.slot-0`].map((path) => server.target(path, LONG));
        await until(async () => (await status(first)).state === "held" && (await status(slot)).waiters === 1);
        await end(actor, ending);
        await until(async () => (await status(first)).state === left && (await status(slot)).waiters === 0);
        held.check();
        await held.release();
        await (await lock(server.target(name, LONG), { slots: 1, timeout })).release();
      });
    }
  });
}
