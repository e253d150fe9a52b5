// A task that holds the first path. After a line it acquires the second one, prints the outcome, and ends.
import { once } from "node:events";
import { stdin } from "node:process";

import { task, withLock } from "tenure";

const [name, first, second] = process.argv.slice(2);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
await task(async () => {
  await withLock(first, { label: name }, async () => {
    say({ held: true });
    await once(stdin, "data");
    stdin.destroy();
    await withLock(second, { timeout: 10_000 }, () => say({ granted: true })).catch(({ code, circle }) => say({ code, circle }));
  });
}, { name });
