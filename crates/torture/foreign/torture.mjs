#!/usr/bin/env node
// A worker of the torture: it holds by OpenClaw's protocol repeatedly, and keeps a witness of the holders inside.
//
//     torture.mjs FOLDER careful|commands|openclaw SEED
//
// `careful` never removes another program's lock file. See `src/` for the folder, the witness and the printed lines.
// Node has no fcntl(2): its witness is a file that names its pid, and it finds the others' in /proc/locks.

import fs from "node:fs";
import path from "node:path";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [folder, phase] = process.argv.slice(2);
const careful = phase === "careful";
const target = path.join(folder, "transcript.jsonl");
const file = target + ".lock";
const witness = process.env.TORTURE_WITNESS;
const mark = path.join(witness, "mark");
// `tenure run` stays for 100 ms after the release of a lock file that was read, so that its reader finds it alive. A worker
// that was kept waiting for longer, as on a busy machine, reads again instead of judging what it read.
const JUDGED_WITHIN_MS = 50;
let last = false;

const say = (text) => fs.writeSync(1, text + "\n");
readline
  .createInterface({ input: process.stdin })
  .on("line", (line) => (last ||= line.trim() === "last"))
  .on("close", () => process.exit(1));

function statOf(pid) {
  try {
    const line = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
    return line.slice(line.lastIndexOf(")") + 1).trim().split(/\s+/);
  } catch {
    return null;
  }
}

const lives = (pid) => !["Z", "X", undefined].includes(statOf(pid)?.[0]);
const startTimeOf = (pid) => Number(statOf(pid)?.[19] ?? NaN);

/** OpenClaw's proofs of death. Malformed files are left to the natives, which judge them better. */
function isStale() {
  let lock;
  const readAt = performance.now();
  try {
    lock = JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return false;
  }
  if (!Number.isSafeInteger(lock.pid) || lock.pid <= 0) return false;
  const dead = !lives(lock.pid);
  if (phase === "commands" && performance.now() - readAt > JUDGED_WITHIN_MS) return false;
  if (dead || lock.pid === process.pid) return true;
  const now = startTimeOf(lock.pid);
  return Number.isSafeInteger(lock.starttime) && Number.isSafeInteger(now) && now !== lock.starttime;
}

async function acquire() {
  for (;;) {
    try {
      const fd = fs.openSync(file, "wx");
      const payload = { pid: process.pid, createdAt: new Date().toISOString(), starttime: startTimeOf(process.pid) };
      fs.writeSync(fd, JSON.stringify(payload, null, 2));
      return fd;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    // Check, then remove: OpenClaw's flaw, kept.
    if (!careful && isStale()) fs.rmSync(file, { force: true });
    else await sleep(Math.random() * 5);
  }
}

/** Returns the bytes of the witness that are locked: 2 by a visible native, 1 by a foreign program. */
function lockedBytes() {
  const { dev, ino } = fs.statSync(path.join(witness, "bytes"));
  const hex = (number) => number.toString(16).padStart(2, "0");
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  const at = ` ${hex(major)}:${hex(minor)}:${ino} `;
  const lines = fs.readFileSync("/proc/locks", "utf8").split("\n");
  return lines.filter((line) => line.includes(" POSIX ") && !line.includes("->") && line.includes(at)).map((line) => {
    return Number(line.trim().split(/\s+/).at(-2));
  });
}

/** Creates the mark with its content: a process that dies in between leaves no empty one. */
function makeMark() {
  const own = `${mark}.${process.pid}`;
  fs.writeFileSync(own, String(process.pid));
  for (;;) {
    try {
      fs.linkSync(own, mark);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
      const pid = Number(fs.readFileSync(mark, "utf8"));
      if (pid !== process.pid && lives(pid)) {
        say(`double foreign-foreign node ${process.pid} entered while node ${pid} held`);
        break;
      }
      fs.rmSync(mark, { force: true });
    }
  }
  fs.rmSync(own);
}

function append(count) {
  const text = fs.existsSync(target) ? fs.readFileSync(target) : Buffer.alloc(0);
  const end = text.lastIndexOf("\n") + 1;
  if (end < text.length) fs.truncateSync(target, end);
  fs.appendFileSync(target, `F ${process.pid}`);
  fs.appendFileSync(target, ` ${count} .\n`);
}

say("ready");
for (let count = 1; ; count += 1) {
  const final = last;
  const fd = await acquire();
  makeMark();
  const bytes = lockedBytes();
  if (bytes.includes(2)) say(`double native-foreign node ${process.pid} entered while a native held`);
  if (bytes.includes(1)) say(`double foreign-foreign node ${process.pid} entered while python held`);
  if (careful) append(count);
  await sleep(Math.random() * 3);
  say(`grant F 0 ${process.pid} ${count} 0`);
  fs.rmSync(mark, { force: true });
  fs.closeSync(fd);
  fs.rmSync(file, { force: true });
  if (final) {
    say("last");
    // Another program that has read this one's lock file may not have judged it yet: OpenClaw's flaw at the end of a
    // process.
    if (phase === "commands") await sleep(1000);
    process.exit(0);
  }
  await sleep(Math.random() * 10);
}
