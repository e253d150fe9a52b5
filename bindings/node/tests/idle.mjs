// Ends by itself: while it holds a lock and listens for its loss, or after a wait.
import { lock } from "tenure";

const [path, how] = process.argv.slice(2);
const held = await lock(path);
if (how === "wait") {
  console.log("granted");
  await held.release();
} else {
  held.on("lost", () => {});
}
