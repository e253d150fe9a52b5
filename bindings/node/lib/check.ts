// Checks of arguments, before anything is locked: a misspelled timeout must not mean an endless wait.
import { inspect } from "node:util";

/** @internal What an option must be, and whether a value is that. */
export type Rule = readonly [wanted: string, fits: (value: unknown) => boolean];

/** @internal The rules of options. */
export const rule = {
  text: ["a string", (value) => typeof value === "string"],
  count: ["a whole number from 1 to 10000", (value) => Number.isInteger(value) && (value as number) > 0 && (value as number) <= 10_000],
  flag: ["true or false", (value) => typeof value === "boolean"],
  period: ["a number of milliseconds above 0", (value) => typeof value === "number" && value > 0],
  timeout: ["a number of milliseconds, or Infinity", (value) => typeof value === "number" && !Number.isNaN(value)],
  signal: ["an AbortSignal", isSignal],
  slots: ["a whole number from 1 to 1000", (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 1000],
} satisfies Record<string, Rule>;

/** @internal The rule of an option that is one of some words. */
export function oneOf(...names: string[]): Rule {
  return [names.map(shown).join(" or "), (value) => names.includes(value as string)];
}

function isSignal(value: unknown): boolean {
  return typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value;
}

function shown(value: unknown): string {
  const text = inspect(value, { depth: 0, breakLength: Infinity, maxStringLength: 60, maxArrayLength: 3 });
  return text.length > 80 ? `${text.slice(0, 80)}..` : text;
}

/** @internal Checks the options of the function `of`. */
export function checkOptions(of: string, options: unknown, rules: Record<string, Rule>): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`${of}: the options must be an object, not ${shown(options)}`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    const found = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (!found) throw new TypeError(`${of} has no option ${shown(name)}; it has ${Object.keys(rules).join(", ")}`);
    const [wanted, fits] = found;
    if (!fits(value)) throw new TypeError(`${of}: ${name} must be ${wanted}, not ${shown(value)}`);
  }
}

/** @internal Checks the function of a task. */
export function checkWork(work: unknown): void {
  if (typeof work !== "function") throw new TypeError(`task: the work must be a function, not ${shown(work)}`);
}

/** @internal Checks a label. */
export function checkLabel(label: unknown): void {
  if (typeof label !== "string") throw new TypeError(`setLabel: the label must be a string, not ${shown(label)}`);
}

/** @internal Checks a path. */
export function checkPath(path: unknown): void {
  if (typeof path === "string" || path instanceof Uint8Array || path instanceof URL) return;
  throw new TypeError(`the path must be a string, a Buffer or a file: URL, not ${shown(path)}`);
}
