// `await using` and `using`, compiled for a Node without them.
import { strict as assert } from "node:assert";

import { Lock, lock, statusSync } from "tenure";

const [path = ""] = process.argv.slice(2);
{
  await using held = await lock(path);
  held.check();
  assert.equal(statusSync(path).state, "held");
}
{
  using held = new Lock(path).acquireSync();
  held.check();
}
assert.equal(statusSync(path).state, "free");
