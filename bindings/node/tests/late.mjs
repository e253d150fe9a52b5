// Waits for a busy lock, until the deadline of the second argument. Then nothing keeps the process alive.
import { lock } from "tenure";

const [path, timeout] = process.argv.slice(2);
const { code } = await lock(path, { timeout: Number(timeout) }).catch((error) => error);
console.log(code);
