import { mkdir, realpath } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

/** @internal Creates a target's folder, and resolves links in it. A link in the last component is not followed. */
export async function normalized(target: string): Promise<string> {
  const path = resolve(target);
  await mkdir(dirname(path), { recursive: true });
  return join(await realpath(dirname(path)), basename(path));
}
