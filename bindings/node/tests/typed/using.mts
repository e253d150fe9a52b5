// `await using` and `using`: compiled here for a Node that does not know them.
import { strict as assert } from "node:assert";

import { inspect, Lock, lock } from "tenure";

const [path = ""] = process.argv.slice(2);
{
  await using held = await lock(path);
  held.check();
  assert.equal(inspect(path).state, "held");
}
{
  using held = new Lock(path).acquireSync();
  held.check();
}
assert.equal(inspect(path).state, "free");
