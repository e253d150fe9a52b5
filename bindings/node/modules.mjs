// Writes dist/*.mjs and dist/*.d.mts: ES modules that re-export the CommonJS ones, so that `import` and `require` share one
// copy of the code, and of the held locks.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

const sessions = ["session-write-lock", "session-write-lock-2026.6"];
for (const module of ["index", ...sessions, "file-lock", "file-lock-2026.8", "proper-lockfile"]) {
  const exported = require(`./dist/${module}.js`);
  // The module of proper-lockfile is a function, which is also its default export.
  const isDefault = typeof exported === "function";
  const names = Object.keys(exported).join(", ");
  const lines = [`import all from "./${module}.js";`, `export const { ${names} } = all;`];
  const types = isDefault
    ? [
        `import all from "./${module}.js";`,
        `export const { ${names} }: typeof all;`,
        ...["RetryOptions", "CheckOptions", "UnlockOptions", "LockOptions"].map(
          (name) => `export type ${name} = all.${name};`,
        ),
      ]
    : [`export * from "./${module}.js";`];
  if (isDefault) for (const text of [lines, types]) text.push("export default all;");
  writeFileSync(`dist/${module}.mjs`, `${lines.join("\n")}\n`);
  writeFileSync(`dist/${module}.d.mts`, `${types.join("\n")}\n`);
}
