// Real lock servers for the tests: started in temporary folders, on loopback addresses of their own.
import { spawn, spawnSync } from "node:child_process";
import { appendFileSync, chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

import { until } from "./helpers.mjs";

/** Returns the path of a program, or undefined. */
function which(name) {
  const found = (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name));
  return found.find((path) => existsSync(path));
}

/** Returns why a test cannot run here, or false. In CI it runs, and fails. */
function lacks(...needed) {
  const missing = needed.filter(([, path]) => !path).map(([name]) => name);
  if (missing.length === 0 || process.env.CI === "true") return false;
  const why = `${missing.join(" and ")} ${missing.length > 1 ? "are" : "is"} not there`;
  if (process.env.TENURE_SKIP_LOG) appendFileSync(process.env.TENURE_SKIP_LOG, `bindings/node: ${why}\n`);
  return why;
}

/** The command `tenure`, which the test script names. */
export const command = process.env.TENURE_COMMAND;

const binaries = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql").sort() : [];
const postgresProgram = binaries.length > 0 ? `/usr/lib/postgresql/${binaries.at(-1)}/bin/postgres` : which("postgres");

/** Why tests of a kind of server cannot run here. */
export const skips = {
  etcd: lacks(["etcd", which("etcd")], ["etcdctl", which("etcdctl")], ["setpriv", which("setpriv")]),
  postgres: lacks(["postgres", postgresProgram], ["psql", which("psql")], ["setpriv", which("setpriv")]),
  command: lacks([`the command tenure (${command})`, command && existsSync(command)]),
};

let count = 0;

/** Returns whether a port of an address is free. */
function isFree(host, port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}

/** Returns a loopback address that no other test's server uses: all of 127/8 is this machine. */
export async function address() {
  for (;;) {
    const number = process.pid * 64 + count++;
    const [high, middle, low] = [(number >> 16) & 255, (number >> 8) & 255, number & 255];
    const found = `127.${high | 1}.${middle}.${low}`;
    if (low < 1 || low > 254) continue;
    const free = await Promise.all([2379, 2380, 5432].map((port) => isFree(found, port)));
    if (free.every(Boolean)) return found;
  }
}

/** A server's process. The kernel kills it with this process. */
class Server {
  constructor(words, folder) {
    const stdio = process.env.TENURE_SERVER_LOG === undefined ? "ignore" : "inherit";
    this.folder = folder;
    this.child = spawn("setpriv", ["--pdeathsig", "KILL", ...words], { stdio, cwd: "/" });
    this.ended = new Promise((resolve) => this.child.on("close", resolve));
    // It does not keep the test's process alive.
    this.child.unref();
  }

  async end(signal = "SIGKILL") {
    this.child.ref();
    this.child.kill(signal);
    await this.ended;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Returns a folder in memory, if possible: a slow fsync looks like a dead leader. */
const folder = () => mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "tenure-node-"));

/** A cluster of one member, which elects itself within half a second. */
export class Etcd extends Server {
  scheme = "etcd";

  static async start() {
    const [host, data] = [await address(), folder()];
    const [client, peer] = [`http://${host}:2379`, `http://${host}:2380`];
    const words = ["etcd", "--name", "m0", "--data-dir", `${data}/m0`, "--log-level", "error"];
    words.push("--listen-client-urls", client, "--advertise-client-urls", client);
    words.push("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", `m0=${peer}`);
    words.push("--heartbeat-interval", "50", "--election-timeout", "500");
    const etcd = new Etcd(words, data);
    etcd.host = host;
    await until(() => etcd.etcdctl("endpoint", "health").status === 0);
    return etcd;
  }

  etcdctl(...words) {
    const env = { ...process.env, ETCDCTL_API: "3" };
    return spawnSync("etcdctl", ["--endpoints", `http://${this.host}:2379`, ...words], { env, encoding: "utf8" });
  }

  target(name, ttl = 20) {
    return `etcd://${this.host}:2379/${name}?ttl=${ttl}s`;
  }

  /** Ends a hold as an operator does who does not know Tenure. */
  endHold(name) {
    return this.etcdctl("del", "--prefix", `${name}/`).stdout.trim() === "1";
  }
}

/** A PostgreSQL server. */
export class Postgres extends Server {
  scheme = "postgres";

  static async start() {
    const [host, data] = [await address(), folder()];
    // The server refuses to run as root.
    const owner = [];
    if (process.getuid() === 0) {
      owner.push("--reuid", "postgres", "--regid", "postgres", "--clear-groups");
      const [, , uid, gid] = readFileSync("/etc/passwd", "utf8").match(/^postgres:.*$/m)[0].split(":");
      chownSync(data, Number(uid), Number(gid));
    }
    const initdb = [postgresProgram.replace(/postgres$/, "initdb"), "--no-sync", "--auth=trust", "--username=postgres"];
    const made = spawnSync("setpriv", [...owner, ...initdb, "--encoding=UTF8", "--locale=C", "-D", `${data}/data`], { cwd: "/" });
    if (made.status !== 0) throw new Error(`initdb failed: ${made.stderr}`);
    const words = [...owner, postgresProgram, "-D", `${data}/data`, "-c", `listen_addresses=${host}`];
    const postgres = new Postgres([...words, "-c", "unix_socket_directories=", "-c", "port=5432", "-c", "fsync=off"], data);
    postgres.host = host;
    await until(() => postgres.psql("SELECT 1").status === 0);
    return postgres;
  }

  psql(sql) {
    const words = ["-X", "-A", "-t", "-h", this.host, "-U", "postgres", "-d", "postgres", "-c", sql];
    return spawnSync("psql", words, { cwd: "/", encoding: "utf8" });
  }

  target(name, ttl = 20) {
    return `postgres://postgres@${this.host}/postgres?lock=${name}&ttl=${ttl}s`;
  }

  /** Ends a hold as an operator does who does not know Tenure. */
  endHold(name) {
    return this.psql(`SELECT pg_terminate_backend(backend) FROM tenure.locks WHERE name = '${name}'`).stdout.trim() === "t";
  }

  end() {
    // SIGQUIT ends the server's children too.
    return super.end("SIGQUIT");
  }
}
