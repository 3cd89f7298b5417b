// Follows the notes of an account with the package `eventsource` as it ships, and keeps what a list would show.
// It says {"have": {id: revision}} whenever that changes, and {"opened": n} for each connection.
import { EventSource } from "eventsource";

const [base, token, cursor] = process.argv.slice(2);
const have = {};
let place = cursor;
let opened = 0;

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

function follow() {
  const query = new URLSearchParams({ subscribe: JSON.stringify({ notes: {} }), cursor: place });
  const events = new EventSource(`${base}/v1/live?${query}`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  });
  events.addEventListener("open", () => say({ opened: ++opened }));
  events.addEventListener("change", (event) => {
    const item = JSON.parse(event.data);
    if (item.gone) delete have[item.id];
    else have[item.id] = item.revision;
    place = event.lastEventId;
    say({ have });
  });
  events.addEventListener("resync", () => say({ resync: true }));
  events.addEventListener("error", () => {
    // It comes again by itself, with the last id, unless it was refused.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 200);
  });
}

follow();
