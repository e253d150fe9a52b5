// Waits for a lock that stays busy, until the deadline that its second word says; then nothing keeps it alive.
import { lock } from "tenure";

const [path, timeout] = process.argv.slice(2);
const { code } = await lock(path, { timeout: Number(timeout) }).catch((error) => error);
console.log(code);
