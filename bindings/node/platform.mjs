// Sets `os`, `cpu` and `libc` in package.json to those of the binary in dist/, so that npm refuses the package elsewhere.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const [, os, cpu, abi] = readdirSync("dist").join(" ").match(/tenure\.([^-.]+)-([^-.]+)-([^-.]+)\.node/);
const built = { os: [os], cpu: [cpu], libc: [abi.startsWith("musl") ? "musl" : "glibc"] };
const about = JSON.parse(readFileSync("package.json", "utf8"));
if (Object.entries(built).some(([key, value]) => String(about[key]) !== String(value))) {
  writeFileSync("package.json", `${JSON.stringify({ ...about, ...built }, null, 2)}\n`);
}
