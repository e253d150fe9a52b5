// Imports everything, and locks, as if on another system, or with the package in another folder.
const [system, where = "tenure", target = "/nowhere/t"] = process.argv.slice(2);
if (system !== process.platform) Object.defineProperty(process, "platform", { value: system });
const { lock } = await import(where);
const sessions = ["session-write-lock", "session-write-lock/2026.6"];
for (const name of [...sessions, "file-lock", "file-lock/2026.8", "proper-lockfile"]) {
  if (where === "tenure") await import(`tenure/${name}`);
}
console.log("imported");
const error = await lock(target).catch((error) => error);
console.log(JSON.stringify({ name: error.name, code: error.code, message: error.message, hint: error.hint }));
