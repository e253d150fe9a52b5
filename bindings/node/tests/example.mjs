// A user's program. Installed packages are tried with it: node example.mjs TARGET prints "held free".
import { lock, status } from "tenure";
import lockfile from "tenure/proper-lockfile";
import { writeFileSync } from "node:fs";
const path = process.argv[2];
(async () => {
  const guard = await lock(path, { timeout: 1000 });
  const held = (await status(path)).state;
  await guard.release();
  writeFileSync(path, "");
  await (await lockfile.lock(path))();
  console.log(held, (await status(path)).state);
})();
