// Locks by the package for Node, as its lines ask: { do, target, timeout, label }. Each is answered with one line.
// usage: node actor.mjs PACKAGE
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { lock } = await import(pathToFileURL(`${process.argv[2]}/dist/index.mjs`));
const say = (answer) => console.log(JSON.stringify(answer));
let guard;

async function acquire({ target, ...options }) {
  try {
    guard = await lock(target, options);
    const { crashed, holder } = guard.previous;
    return { fence: guard.fence, crashed: crashed ? holder.pid : null };
  } catch (error) {
    return { code: error.code, message: error.message, pid: error.holder?.pid, label: error.holder?.label };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, ...words } = JSON.parse(line);
  if (what === "acquire") {
    say(await acquire(words));
  } else {
    guard.check();
    await guard.release();
    say({});
  }
}
