#!/usr/bin/env node
// A worker of the torture that holds by the package for Node repeatedly: a native, as the workers in Rust are.
//
//     torture.mjs FOLDER PHASE SEED
//
// It waits, times out, and is aborted. See `src/` for the folder, the witness and the printed lines. Node has no
// fcntl(2): its witness is a file that names its pid, and it finds the others' in /proc/locks, when it enters and
// before it leaves.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, phase] = process.argv.slice(2);
const { Lock, TenureError } = createRequire(path.join(process.env.TORTURE_NODE, "package.json"))("tenure");
const target = path.join(folder, "transcript.jsonl");
const witness = process.env.TORTURE_WITNESS;
const mark = path.join(witness, "mark");
const own = `${mark}.${process.pid}`;
const me = `node ${process.pid}`;
let last = false;

const say = (text) => fs.writeSync(1, text + "\n");
const below = (number) => Math.floor(Math.random() * number);
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => (last ||= line.trim() === "last"))
  .on("close", () => process.exit(1));

/** Reports whether a process lives. An exiting one (PF_EXITING of the flags) has released its kernel locks already. */
function lives(pid) {
  try {
    const line = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = line.slice(line.lastIndexOf(")") + 1).trim().split(/\s+/);
    return !"ZX".includes(fields[0]) && (Number(fields[6]) & 4) === 0;
  } catch {
    return false;
  }
}

/** Returns the bytes of the witness that are locked: 0 by a native, 1 by a foreign program. */
function lockedBytes() {
  const { dev, ino } = fs.statSync(path.join(witness, "bytes"));
  const hex = (number) => number.toString(16).padStart(2, "0");
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  const at = ` ${hex(major)}:${hex(minor)}:${ino} `;
  const lines = fs.readFileSync("/proc/locks", "utf8").split("\n");
  return lines
    .filter((line) => line.includes(" POSIX ") && !line.includes("->") && line.includes(at))
    .map((line) => Number(line.trim().split(/\s+/).at(-2)));
}

function look(when) {
  const bytes = lockedBytes();
  if (bytes.includes(0)) say(`double native-native ${me} ${when} while a native held`);
  if (bytes.includes(1)) say(`double native-foreign ${me} ${when} while a foreign program held`);
}

/** Creates the mark with its content: a process that dies in between leaves no empty one. */
function makeMark() {
  fs.writeFileSync(own, String(process.pid));
  for (;;) {
    try {
      fs.linkSync(own, mark);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      const pid = Number(fs.readFileSync(mark, "utf8"));
      if (pid !== process.pid && lives(pid)) {
        say(`double native-foreign ${me} entered while node ${pid} held`);
        break;
      }
      fs.rmSync(mark, { force: true });
    }
  }
  fs.rmSync(own);
}

/** Appends in two writes, so that a holder that dies between them leaves a torn line. */
function append({ fence, previous }, count) {
  const text = fs.existsSync(target) ? fs.readFileSync(target) : Buffer.alloc(0);
  const end = text.lastIndexOf("\n") + 1;
  if (end < text.length) {
    if (!previous.crashed) say(`fault fence ${fence} found a torn line, but without a crash report`);
    fs.truncateSync(target, end);
  }
  const line = `N ${fence} ${process.pid} ${count} .\n`;
  const cut = below(line.length);
  fs.appendFileSync(target, line.slice(0, cut));
  fs.appendFileSync(target, line.slice(cut));
}

/** A fifth of the waits have a timeout, and a third of the others are aborted at about the time of their grant. */
async function acquire(lock, final) {
  const timeout = final ? Infinity : [0, Math.random() * 20, Infinity, Infinity, Infinity][below(5)];
  if (final || timeout !== Infinity || below(3) > 0) return lock.acquire({ timeout });
  const control = new AbortController();
  const timer = setTimeout(() => control.abort(), Math.random() * 10);
  return lock.acquire({ signal: control.signal }).finally(() => clearTimeout(timer));
}

const locks = [new Lock(target, { label: "torture from node" })];
if (!phase.startsWith("careful")) locks.push(new Lock(target, { label: "torture from node", style: "flock" }));
say(`ready ${process.pid}`);
for (let count = 1; ; count += 1) {
  const final = last;
  let held;
  try {
    held = await acquire(locks[below(locks.length)], final);
  } catch (error) {
    if (error.code === "TENURE_BUSY") say("busy");
    else if (error instanceof TenureError) say(`fault pid ${process.pid} could not acquire: ${error.message}`);
    else if (error.name !== "AbortError") throw error;
    continue;
  }
  makeMark();
  look("came in");
  append(held, count);
  await sleep(Math.random() * 3);
  say(`grant N ${held.fence} ${process.pid} ${count} ${Number(held.previous.crashed)}`);
  look("was inside");
  fs.rmSync(mark, { force: true });
  try {
    if (below(8) === 0) held.setLabel(`torture from node ${"x".repeat(below(40))}`);
    held.check();
    held.releaseSync();
  } catch (error) {
    say(`fault pid ${process.pid} fence ${held.fence} lost the lock: ${error.message}`);
  }
  if (final) {
    say("last");
    process.exit(0);
  }
  await sleep(Math.random() * 3);
}
