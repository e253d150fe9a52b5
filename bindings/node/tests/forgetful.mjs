// Acquires a lock, drops the guard, and collects garbage until another dropped object is collected.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { lock } from "tenure";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

await lock(process.argv[2]);
let collected = false;
const registry = new FinalizationRegistry(() => (collected = true));
registry.register({}, 0);
while (!collected) {
  collect();
  await new Promise(setImmediate);
}
process.stdout.write(`${JSON.stringify({ collected: true })}\n`);
process.stdin.resume();
