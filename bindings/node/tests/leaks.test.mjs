// 200,000 acquires and releases leave memory and the handles of libuv unchanged.
import { strict as assert } from "node:assert";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { folder } from "./helpers.mjs";

const script = fileURLToPath(new URL("rounds.mjs", import.meta.url));

for (const [how, times] of [
  ["session", 200_000],
  ["lock", 200_000],
  ["opened", 200_000],
  ["contended", 20_000],
  ["lost", 20_000],
  ["task", 200_000],
  ["file", 20_000],
  ["proper", 20_000],
]) {
  test(`${times} rounds: ${how}`, async (t) => {
    const { stdout } = await promisify(execFile)(process.execPath, [script, how, `${folder(t)}/t`, String(times)]);
    const { before, after } = JSON.parse(stdout);
    assert.equal(after.handles, before.handles, "handles of libuv");
    const grown = after.memory - before.memory;
    // A leaked lock would cost some kilobytes. The collector varies by a few megabytes.
    assert(grown < 30e6, `${grown} bytes more: ${stdout}`);
  });
}
