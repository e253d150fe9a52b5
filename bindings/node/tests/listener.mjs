// Holds a lock, and listens to SIGINT from before or after the acquire.
import { lock } from "tenure";

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const listen = () => process.on("SIGINT", () => say({ heard: "SIGINT" }));
if (process.env.WHEN === "before") listen();
await lock(process.argv[2]);
if (process.env.WHEN === "after") listen();
process.stdin.resume();
say({ held: true });
