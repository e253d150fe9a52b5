// Ends by itself: while it holds (and listens for the loss), or once a wait is over.
import { lock } from "tenure";

const [path, how] = process.argv.slice(2);
const held = await lock(path);
if (how === "wait") {
  console.log("granted");
  await held.release();
} else {
  held.on("lost", () => {});
}
