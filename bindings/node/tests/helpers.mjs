// Shared by the tests: temporary folders, and processes that are controlled by lines.
import { spawn } from "node:child_process";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Resolves other packages, which the test script installs in this folder. */
export const peers = createRequire(pathToFileURL(join(process.env.TENURE_PEERS, "package.json")));

export function folder(t) {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "tenure-node-")));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A process that answers each line with one line: see actor.mjs. */
export class Actor {
  #answers = [];
  #asked = [];

  /** `of` names the package to lock by, `wrapped` a program that starts Node, `more` further arguments of the script. */
  constructor(t, of = "tenure", { script = "actor.mjs", wrapped = [], more = [] } = {}) {
    const words = [...wrapped, process.execPath, fileURLToPath(new URL(script, import.meta.url)), of, ...more];
    this.child = spawn(words[0], words.slice(1), { stdio: ["pipe", "pipe", "pipe"] });
    this.stderr = "";
    this.child.stderr.on("data", (data) => (this.stderr += data));
    this.child.stdin.on("error", () => {});
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code, signal) => {
        resolve({ code, signal });
        for (const { reject } of this.#asked.splice(0)) reject(new Error(`the process ended: ${code ?? signal} ${this.stderr}`));
      });
    });
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      const answer = JSON.parse(line);
      const asked = this.#asked.shift();
      if (asked) asked.resolve(answer);
      else this.#answers.push(answer);
    });
    t.after(() => this.child.kill("SIGKILL"));
  }

  get pid() {
    return this.child.pid;
  }

  tell(command, words = {}) {
    this.child.stdin.write(`${JSON.stringify({ do: command, ...words })}\n`);
  }

  hear() {
    const answer = this.#answers.shift();
    if (answer !== undefined) return Promise.resolve(answer);
    return new Promise((resolve, reject) => this.#asked.push({ resolve, reject }));
  }

  ask(command, words) {
    this.tell(command, words);
    return this.hear();
  }

  async must(command, words) {
    const answer = await this.ask(command, words);
    if (answer.error) throw new Error(`${command}: ${JSON.stringify(answer.error)}`);
    return answer;
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    return await this.ended;
  }
}

/** Keeps the test's process alive, which the events of a guard do not. */
export function awake(t) {
  const timer = setInterval(() => {}, 1000);
  t.after(() => clearInterval(timer));
}

/** Polls until `is` returns true, for as long as the test may run. */
export async function until(is) {
  while (!(await is())) await new Promise((resolve) => setTimeout(resolve, 5));
}
