// The code of docs/sync.md, in a folder of its own, with one device of each kind. Says "done", or what went wrong.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { createRxDatabase } from "rxdb/plugins/core";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { beginAnew, replicate } from "./rxdb.js";
import { conflictHandler } from "./rxdb-conflicts.js";
import { replicate as replicateByServer } from "./rxdb-server.js";
import { sync } from "./watermelon.js";
import { schema } from "./watermelon-schema.js";

const require = createRequire(import.meta.url);
const { Database, Model } = require("@nozbe/watermelondb");
const LokiJSAdapter = require("@nozbe/watermelondb/adapters/lokijs").default;
require("@nozbe/watermelondb/utils/common/logger").default.silence();

const [base, token, expiring] = process.argv.slice(2);
const until = async (reached) => {
  for (const end = Date.now() + 15_000; !(await reached()); await new Promise((done) => setTimeout(done, 50))) {
    assert(Date.now() < end, `not reached: ${reached}`);
  }
};
const api = async (method, path, body) => {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
  return response.status === 204 ? null : response.json();
};

// WatermelonDB
class Note extends Model {
  static table = "notes";
}
class Notebook extends Model {
  static table = "notebooks";
}
const adapter = new LokiJSAdapter({ schema, useWebWorker: false, useIncrementalIndexedDB: true, dbName: "documented" });
const melon = new Database({ adapter, modelClasses: [Note, Notebook] });
await sync(melon, base, token);
await melon.write(() =>
  melon.get("notes").create((note) => {
    note._raw.id = "documented-melon";
    note._setRaw("title", "From a phone");
    note._setRaw("tags", '["shop"]');
  }),
);
await sync(melon, base, token);
assert.deepEqual((await api("GET", "/v1/notes/documented-melon")).tags, ["shop"]);
await api("PATCH", "/v1/notes/documented-melon", { title: "From elsewhere" });
await sync(melon, base, token);
assert.equal((await melon.get("notes").find("documented-melon"))._raw.title, "From elsewhere");

// RxDB
const text = { type: "string" };
const notes = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: { id: { ...text, maxLength: 64 }, title: text, due: { type: ["string", "null"] }, revision: { type: "integer" } },
  required: ["id", "title"],
};
const open = async (name) => {
  const database = await createRxDatabase({ name, storage: getRxStorageMemory(), multiInstance: false });
  await database.addCollections({ notes: { schema: notes, conflictHandler } });
  return database;
};
const live = await open("live");
const listening = replicateByServer(live.notes, base, token);
await until(async () => await live.notes.findOne("documented-melon").exec());
await live.notes.insert({ id: "documented-live", title: "Heard" });
await until(async () => (await api("GET", "/v1/notes/documented-live")).title === "Heard");
await api("PATCH", "/v1/notes/documented-live", { title: "Answered" });
await until(async () => (await live.notes.findOne("documented-live").exec()).title === "Answered");
await listening.cancel();

const rx = await open("rx");
let replication = replicate(rx.notes, base, () => token);
await replication.awaitInSync();
await rx.notes.insert({ id: "documented-rx", title: "Kept" });
await replication.awaitInSync();
await replication.cancel();
if (expiring) {
  // The operator, beside us, lets the order forget what was before.
  await api("DELETE", "/v1/notes/documented-live");
  await (await rx.notes.findOne("documented-rx").exec()).incrementalPatch({ title: "Written while away" });
  process.stdout.write("expire\n");
  await new Promise((done) => process.stdin.once("data", done));
  const codes = [];
  const late = replicate(rx.notes, base, () => token, { retryTime: 50 });
  late.error$.subscribe(({ parameters }) => codes.push(parameters.errors?.[0]?.code));
  await until(() => codes.includes("cursor_expired"));
  await late.cancel();
  replication = await beginAnew(rx.notes, base, () => token);
  await replication.awaitInSync();
  assert.equal((await api("GET", "/v1/notes/documented-rx")).title, "Written while away");
  assert.equal((await rx.notes.findOne("documented-rx").exec()).title, "Written while away");
  assert.equal(await rx.notes.findOne("documented-live").exec(), null);
  await replication.cancel();
}
process.stdout.write("done\n");
process.exit(0);
