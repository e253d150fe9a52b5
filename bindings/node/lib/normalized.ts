import { mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

/** @internal A target's path with its folder made and resolved; links in its last part are not followed. */
export async function normalized(target: string): Promise<string> {
  const path = resolve(target);
  await mkdir(dirname(path), { recursive: true });
  return join(await realpath(dirname(path)), basename(path));
}
