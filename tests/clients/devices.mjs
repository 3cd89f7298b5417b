// Devices with the sync clients as their libraries ship them, in one process, told what to do by lines of JSON.
//
// A line is {"n": 1, "device": "a", "do": "create", ...}; the answer is {"n": 1, "value": ...} or {"n": 1, "error": "..."}.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

import { createRxDatabase } from "rxdb/plugins/core";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { wrappedValidateAjvStorage } from "rxdb/plugins/validate-ajv";
import * as newest from "rxdb-newest/plugins/core";
import { replicateRxCollection } from "rxdb-newest/plugins/replication";
import { getRxStorageMemory as getNewestMemory } from "rxdb-newest/plugins/storage-memory";
import { wrappedValidateAjvStorage as wrappedNewest } from "rxdb-newest/plugins/validate-ajv";
import { replicateServer } from "rxdb-server/plugins/replication-server";
import { Subject } from "rxjs";

const require = createRequire(import.meta.url);
const { appSchema, tableSchema, Database, Model } = require("@nozbe/watermelondb");
const { schemaMigrations, addColumns, createTable } = require("@nozbe/watermelondb/Schema/migrations");
const LokiJSAdapter = require("@nozbe/watermelondb/adapters/lokijs").default;
const { synchronize, hasUnsyncedChanges } = require("@nozbe/watermelondb/sync");
require("@nozbe/watermelondb/utils/common/logger").default.silence();

const RETRY_MS = 50;

function modelOf(table, columns) {
  class Row extends Model {
    static table = table;
  }
  // By these two properties the library finds out that it has to keep the times.
  for (const [property, column] of [["createdAt", "created_at"], ["updatedAt", "updated_at"]]) {
    if (columns.some(({ name }) => name === column)) {
      Object.defineProperty(Row.prototype, property, { get() { return this._getRaw(column); } });
    }
  }
  return Row;
}

class Watermelon {
  constructor(options) {
    Object.assign(this, { pause: 0, migratable: undefined, tables: undefined }, options);
    this.start(options.schema);
  }

  start(schema, migrations, adapter) {
    const tables = Object.entries(schema.tables).map(([name, columns]) => tableSchema({ name, columns }));
    this.adapter = new LokiJSAdapter({
      schema: appSchema({ version: schema.version, tables }),
      migrations: migrations && schemaMigrations({ migrations }),
      useWebWorker: false,
      useIncrementalIndexedDB: true,
      dbName: this.name,
      extraLokiOptions: { autosave: false },
      ...(adapter ? { _testLokiAdapter: adapter } : {}),
    });
    const modelClasses = Object.entries(schema.tables).map(([name, columns]) => modelOf(name, columns));
    this.database = new Database({ adapter: this.adapter, modelClasses });
  }

  // The app as it is after an update, on the same data.
  async upgrade({ schema, steps, migratable }) {
    const driver = this.adapter._driver;
    await new Promise((done, failed) => driver.loki.saveDatabase((error) => (error ? failed(error) : done())));
    const made = steps.map((step) =>
      step.columns ? addColumns(step) : createTable({ name: step.create, columns: schema.tables[step.create] }),
    );
    this.migratable = migratable;
    this.start(schema, [{ toVersion: schema.version, steps: made }], driver.loki.persistenceAdapter);
  }

  get(table) {
    return this.database.get(table);
  }

  async create({ table, id, row }) {
    await this.database.write(() =>
      this.get(table).create((made) => {
        made._raw.id = id;
        for (const [column, value] of Object.entries(row)) made._setRaw(column, value);
      }),
    );
  }

  async update({ table, id, row }) {
    await this.database.write(async () => {
      const found = await this.get(table).find(id);
      await found.update((made) => {
        for (const [column, value] of Object.entries(row)) made._setRaw(column, value);
      });
    });
  }

  async remove({ table, id }) {
    await this.database.write(async () => (await this.get(table).find(id)).markAsDeleted());
  }

  async rows({ table }) {
    return (await this.get(table).query().fetch()).map(({ _raw }) => ({ ..._raw }));
  }

  async unsynced() {
    return hasUnsyncedChanges({ database: this.database });
  }

  request(method, parameters, body) {
    const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
    return fetch(`${this.url}/v1/sync/watermelondb?${query}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
    });
  }

  async pull({ lastPulledAt, schemaVersion, migration }) {
    const parameters = { schema_version: schemaVersion, migration: JSON.stringify(migration), tables: this.tables };
    let response = await this.request("GET", { ...parameters, last_pulled_at: lastPulledAt });
    let strategy;
    if (response.status === 410) {
      // Away for so long that nobody remembers what was deleted meanwhile: take all, and drop what does not come.
      response = await this.request("GET", { ...parameters, last_pulled_at: null });
      strategy = "replacement";
    }
    if (!response.ok) throw new Error(`pull ${response.status} ${await response.text()}`);
    const { changes, timestamp } = await response.json();
    this.pulled = { changes, timestamp, strategy };
    return { changes, timestamp, experimentalStrategy: strategy };
  }

  async push({ changes, lastPulledAt }) {
    this.pushed = { changes, lastPulledAt };
    if (this.pause) await new Promise((done) => setTimeout(done, this.pause));
    const response = await this.request("POST", { last_pulled_at: lastPulledAt }, changes);
    if (!response.ok) throw new Error(`push ${response.status} ${await response.text()}`);
    this.problems = (await response.json()).problems ?? [];
  }

  async sync() {
    Object.assign(this, { pulled: undefined, pushed: undefined, problems: undefined });
    await synchronize({
      database: this.database,
      pullChanges: (asked) => this.pull(asked),
      pushChanges: (made) => this.push(made),
      sendCreatedAsUpdated: true,
      migrationsEnabledAtVersion: this.migratable,
    });
    return this.last();
  }

  last() {
    return { pulled: this.pulled, pushed: this.pushed, problems: this.problems };
  }

  async close() {}
}

class Rx {
  constructor(options) {
    Object.assign(this, options);
    this.errors = [];
    this.conflicts = [];
    this.sent = [];
    this.received = [];
    this.replications = {};
  }

  async open() {
    const [create, storage] = this.isNewest
      ? [newest.createRxDatabase, wrappedNewest({ storage: getNewestMemory() })]
      : [createRxDatabase, wrappedValidateAjvStorage({ storage: getRxStorageMemory() })];
    this.database = await create({ name: this.name, storage, multiInstance: false, eventReduce: false });
    const schemas = Object.entries(this.collections).map(([name, schema]) => [name, { schema }]);
    await this.database.addCollections(Object.fromEntries(schemas));
  }

  async create({ table, id, row }) {
    await this.database[table].insert({ id, ...row });
  }

  async update({ table, id, row }) {
    await (await this.database[table].findOne(id).exec()).incrementalPatch(row);
  }

  async remove({ table, id }) {
    await (await this.database[table].findOne(id).exec()).incrementalRemove();
  }

  async rows({ table }) {
    return (await this.database[table].find().exec()).map((document) => document.toJSON());
  }

  headers() {
    return { Authorization: `Bearer ${this.token}` };
  }

  // Any client over HTTP, by the primitives of RxDB.
  replicateOverHttp(table, live) {
    const url = `${this.url}/v1/sync/rxdb/${table}/${this.database[table].schema.version}`;
    const headers = () => ({ ...this.headers(), "Content-Type": "application/json" });
    const checked = async (response) => {
      const body = await response.json();
      if (!response.ok) throw Object.assign(new Error(`${response.status} ${body.code}`), body);
      return body;
    };
    const stream = new Subject();
    const state = replicateRxCollection({
      replicationIdentifier: `${this.name}-${table}`,
      collection: this.database[table],
      live,
      retryTime: RETRY_MS,
      pull: {
        batchSize: this.batch,
        stream$: stream.asObservable(),
        handler: async (checkpoint, limit) => {
          const { lwt, id } = checkpoint ?? { lwt: 0, id: "" };
          return checked(await fetch(`${url}/pull?${new URLSearchParams({ lwt, id, limit })}`, { headers: headers() }));
        },
      },
      push: {
        batchSize: this.batch,
        handler: async (rows) =>
          checked(await fetch(`${url}/push`, { method: "POST", headers: headers(), body: JSON.stringify(rows) })),
      },
    });
    state.resync = () => stream.next("RESYNC");
    return state;
  }

  replicateByServer(table, live) {
    return replicateServer({
      replicationIdentifier: `${this.name}-${table}`,
      collection: this.database[table],
      url: `${this.url}/v1/sync/rxdb/${table}/${this.database[table].schema.version}`,
      headers: this.headers(),
      live,
      retryTime: RETRY_MS,
      pull: { batchSize: this.batch },
      push: { batchSize: this.batch },
    });
  }

  replicate(table, live) {
    const state = this.isNewest ? this.replicateOverHttp(table, live) : this.replicateByServer(table, live);
    state.error$.subscribe((error) => {
      const told = error.parameters?.errors?.[0] ?? error.parameters ?? error;
      this.errors.push({ table, code: error.code ?? "", told: JSON.stringify(told).slice(0, 2000) });
    });
    state.conflict$?.subscribe(({ input }) => this.conflicts.push({ table, ...input }));
    state.sent$.subscribe((document) => this.sent.push({ table, document }));
    state.received$.subscribe((document) => this.received.push({ table, document }));
    for (const event of ["outdatedClient$", "unauthorized$", "forbidden$"]) {
      state[event]?.subscribe(() => this.errors.push({ table, code: event, told: "" }));
    }
    this.replications[table] = state;
    return state;
  }

  // Once there and back, all collections at the same time, as an app that starts does.
  async sync({ tables = Object.keys(this.collections), most = 60 }) {
    this.errors.length = this.conflicts.length = this.sent.length = this.received.length = 0;
    await Promise.all(
      tables.map(async (table) => {
        const state = this.replicate(table, false);
        const ended = new Promise((done) => state.canceled$.subscribe((canceled) => canceled && done("canceled")));
        const failed = new Promise((_, reject) =>
          state.error$.subscribe(() => {
            if (this.errors.length > most) reject(new Error(JSON.stringify(this.errors.at(-1))));
          }),
        );
        try {
          await Promise.race([state.awaitInSync(), ended, failed]);
        } finally {
          await state.cancel();
        }
      }),
    );
    return this.last();
  }

  async live({ tables = Object.keys(this.collections) }) {
    await Promise.all(tables.map((table) => this.replicate(table, true).awaitInitialReplication()));
  }

  isStopped({ table }) {
    return this.replications[table].isStopped();
  }

  async stop() {
    await Promise.all(Object.values(this.replications).map((state) => state.cancel()));
  }

  last() {
    const { errors, conflicts, sent, received } = this;
    return { errors: [...errors], conflicts: [...conflicts], sent: [...sent], received: [...received] };
  }

  async close() {
    await this.stop();
    await this.database.close();
  }
}

const devices = new Map();
const KINDS = {
  watermelon: (options) => new Watermelon(options),
  "rxdb-server": (options) => new Rx({ ...options, isNewest: false }),
  rxdb: (options) => new Rx({ ...options, isNewest: true }),
};

async function answer({ device, do: name, ...args }) {
  if (name === "open") {
    const made = KINDS[args.kind](args);
    devices.set(device, made);
    return made.open?.();
  }
  const found = devices.get(device);
  if (name === "set") return void Object.assign(found, args.to);
  return found[name](args);
}

for await (const line of createInterface({ input: process.stdin })) {
  const { n, ...asked } = JSON.parse(line);
  answer(asked).then(
    (value) => process.stdout.write(JSON.stringify({ n, value: value ?? null }) + "\n"),
    (error) => process.stdout.write(JSON.stringify({ n, error: `${error?.stack ?? error}` }) + "\n"),
  );
}
process.exit(0);
