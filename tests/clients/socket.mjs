// Follows the notes of an account with the package `socket.io-client` as it ships, and keeps what a list would show.
// It says {"have": {id: revision}} whenever that changes, {"opened": n} for each connection, and why one has ended.
import { io } from "socket.io-client";

const [base, token, cursor, transports = "polling,websocket"] = process.argv.slice(2);
const have = {};
let place = cursor;
let opened = 0;

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const socket = io(base, {
  auth: (give) => give({ token }),
  transports: transports.split(","),
  reconnectionDelay: 50,
  reconnectionDelayMax: 300,
});
socket.on("connect", async () => {
  const answer = await socket.emitWithAck("subscribe", { subscribe: { notes: {} }, cursor: place });
  if (answer.id) say({ opened: ++opened, transport: socket.io.engine.transport.name });
  else say({ refused: answer });
});
socket.on("change", ({ cursor: next, item }) => {
  if (item.gone) delete have[item.id];
  else have[item.id] = item.revision;
  place = next;
  say({ have });
});
socket.on("caught_up", ({ cursor: next }) => { place = next; });
socket.on("resync", () => say({ resync: true }));
socket.on("disconnect", (reason) => say({ ended: reason }));
socket.on("connect_error", (error) => {
  say({ failed: error.message, problem: error.data });
  // What was refused by the service does not come again by itself.
  if (!socket.active) setTimeout(() => socket.connect(), 200);
});
