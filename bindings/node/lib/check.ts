// Checks of arguments, before anything is locked: a misspelled timeout must not mean an endless wait.
import { inspect } from "node:util";

type Rule = readonly [wanted: string, fits: (value: unknown) => boolean];

const text: Rule = ["a string", (value) => typeof value === "string"];
const flag: Rule = ["true or false", (value) => typeof value === "boolean"];
const period: Rule = ["a number of milliseconds above 0", (value) => typeof value === "number" && value > 0];
const oneOf = (...names: string[]): Rule => [names.map(shown).join(" or "), (value) => names.includes(value as string)];

const LOCK = {
  label: text,
  maxHold: period,
  overrun: oneOf("report", "revoke"),
  stealAfter: period,
  reentrant: flag,
  style: oneOf("lock-file", "flock"),
  shared: flag,
  record: flag,
  createParents: flag,
  refreshInterval: period,
} satisfies Record<string, Rule>;

const WAIT = {
  timeout: ["a number of milliseconds, or Infinity", (value) => typeof value === "number" && !Number.isNaN(value)],
  signal: ["an AbortSignal", isSignal],
} satisfies Record<string, Rule>;

function isSignal(value: unknown): boolean {
  return typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value;
}

function shown(value: unknown): string {
  const text = inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 60, maxArrayLength: 3 });
  return text.length > 80 ? `${text.slice(0, 80)}..` : text;
}

function check(of: string, options: unknown, rules: Record<string, Rule>): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`${of}: the options must be an object, not ${shown(options)}`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (!rule) throw new TypeError(`${of} has no option ${shown(name)}; it has ${Object.keys(rules).join(", ")}`);
    if (!rule[1](value)) throw new TypeError(`${of}: ${name} must be ${rule[0]}, not ${shown(value)}`);
  }
}

/** @internal */
export const checked = {
  /** Checks the options of `new Lock()`. */
  opening: (options: unknown) => check("Lock", options, LOCK),
  /** Checks the options of `acquire()`. */
  waiting: (options: unknown) => check("acquire", options, WAIT),
  /** Checks the options of `lock()` and `withLock()`. */
  both: (of: string, options: unknown) => check(of, options, { ...LOCK, ...WAIT }),
  label(label: unknown): void {
    if (typeof label !== "string") throw new TypeError(`setLabel: the label must be a string, not ${shown(label)}`);
  },
  path(path: unknown): void {
    if (typeof path === "string" || path instanceof Uint8Array || path instanceof URL) return;
    throw new TypeError(`the path must be a string, a Buffer or a file: URL, not ${shown(path)}`);
  },
};
