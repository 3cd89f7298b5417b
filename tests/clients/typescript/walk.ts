/** What an app does, whatever made its client: each of the clients is put into the terms of `App` and walks. */
import assert from "node:assert/strict";

export interface Person { username: string; password: string }
export interface Tokens { access_token: string; refresh_token: string }
export interface Note { id: string; revision: number; title: string; priority: number; tags: string[] }
export interface NoteBody { title: string; priority: number; place: { type: "Point"; coordinates: [number, number] } }
export interface Patch {
  title?: string;
  notebook?: string;
  $inc?: { priority: number };
  $push?: { tags: { each: string[] } };
}
export interface Query { where: string; sort: "-priority,due"; expand: string; scope: string }
export interface Seen { id: string; notebook?: string | null; expanded?: { notebook?: { title: string } | null } }
export interface Gym {
  name: string;
  kind: "24/7";
  level: 2;
  mood: "good";
  members: number;
  steps: string;
  rating: number;
  fee: string;
  opened: string;
  corner: [number, number];
  hours: Record<string, string>;
  extra: Record<string, unknown>;
  machines: { name: string; weight_kg: number; state: "worn out" }[];
}
export interface Changes { items: { type: string; id: string; record?: { [name: string]: unknown } }[]; cursor: string }
export interface Part { method: "GET" | "PATCH"; path: string; body?: unknown }

/** Either `data` or `problem`, as the status says. */
export interface Answer<T> {
  status: number;
  headers: Headers;
  data?: T | undefined;
  problem?: { code: string } | undefined;
}

export interface App {
  useToken(access: string): void;
  signUp(person: Person): Promise<Answer<{ id: string; username: string | null }>>;
  logIn(person: Person & { device: string }): Promise<Answer<Tokens>>;
  refresh(token: string): Promise<Answer<Tokens>>;
  logOut(): Promise<Answer<unknown>>;
  getOwnAccount(): Promise<Answer<{ id: string }>>;
  exportOwnAccount(): Promise<Answer<{ notes: Note[] }>>;
  createNotebook(body: { title: string }): Promise<Answer<{ id: string }>>;
  createNote(body: NoteBody, key: string): Promise<Answer<Note>>;
  changeNote(id: string, body: Patch, ifMatch?: string): Promise<Answer<Note>>;
  listNotes(query?: Query): Promise<Answer<{ items: Seen[] }>>;
  createGym(body: Gym): Promise<Answer<{ kind: string; level?: number | null; fee?: string | null }>>;
  rateGyms(body: { name: string; stars: number }): Promise<Answer<{ gyms: number }>>;
  listChanges(types: string, cursor?: string): Promise<Answer<Changes>>;
  sendBatch(requests: Part[]): Promise<Answer<{ responses: { status: number }[] }>>;
}

export const base = process.argv[2]!;

function good<T>(answer: Answer<T>): T {
  assert.equal(answer.problem, undefined);
  assert.ok(answer.data !== undefined);
  return answer.data;
}

export async function walk(app: App): Promise<void> {
  const person = { username: `ada-${crypto.randomUUID().slice(0, 8)}`, password: "correct horse battery" };

  // Sign up and log in.
  const account = await app.signUp(person);
  assert.equal(account.status, 201);
  assert.equal(good(account).username, person.username);
  const tokens = good(await app.logIn({ ...person, device: "walk" }));
  app.useToken(tokens.access_token);

  // Create, with a key; sent again, it is done once.
  const key = crypto.randomUUID();
  const bread: NoteBody = { title: "Bread", priority: 1, place: { type: "Point", coordinates: [127, 37.5] } };
  const { id, revision } = good(await app.createNote(bread, key));
  const again = await app.createNote(bread, key);
  assert.equal(good(again).id, id);
  assert.equal(again.headers.get("Idempotent-Replayed"), "true");

  // List with `where`, and what a reference points to.
  const book = good(await app.createNotebook({ title: "Kitchen" }));
  good(await app.changeNote(id, { notebook: book.id }));
  const query: Query = { where: JSON.stringify({ title: "Bread" }), sort: "-priority,due", expand: "notebook", scope: "mine" };
  const seen = good(await app.listNotes(query)).items;
  assert.deepEqual(seen.map((note) => [note.id, note.notebook, note.expanded?.notebook?.title]), [[id, book.id, "Kitchen"]]);

  // Operators; and a change that was made on what is no longer there.
  const counted = good(await app.changeNote(id, { $inc: { priority: 2 }, $push: { tags: { each: ["home"] } } }));
  assert.deepEqual([counted.priority, counted.tags], [3, ["home"]]);
  const late = await app.changeNote(id, { title: "Late" }, `"${revision}"`);
  assert.deepEqual([late.status, late.problem?.code], [412, "revision_mismatch"]);
  good(await app.changeNote(id, { title: "In time" }, `"${counted.revision}"`));

  // A type of somebody's own: every kind of value comes back as it was sent.
  const gym: Gym = {
    name: "Yard",
    kind: "24/7",
    level: 2,
    mood: "good",
    members: 2 ** 40,
    steps: "9007199254740993",
    rating: 4.5,
    fee: "12.50",
    opened: "2026-11-22",
    corner: [127, 37.5],
    hours: { mo: "6-22" },
    extra: { any: ["thing", null] },
    machines: [{ name: "rower", weight_kg: 30.5, state: "worn out" }],
  };
  const stored: object = good(await app.createGym(gym));
  assert.partialDeepStrictEqual(stored, gym);

  // A function of somebody's own, with a typed answer, and the problem of a body that it does not take.
  assert.equal(good(await app.rateGyms({ name: "Yard", stars: 5 })).gyms, 1);
  const most = await app.rateGyms({ name: "Yard", stars: 6 });
  assert.deepEqual([most.status, most.problem?.code], [422, "validation_failed"]);

  // Many at once.
  const parts: Part[] = [{ method: "PATCH", path: `/v1/notes/${id}`, body: { title: "Rye" } }, { method: "GET", path: "/v1/notes/none" }];
  assert.deepEqual(good(await app.sendBatch(parts)).responses.map((part) => part.status), [200, 404]);

  // What has changed, and what has changed since.
  const changes = good(await app.listChanges("notes"));
  assert.deepEqual(changes.items.map((change) => [change.type, change.id, change.record?.title]), [["notes", id, "Rye"]]);
  assert.deepEqual(good(await app.listChanges("notes", changes.cursor)).items, []);

  // Refresh, go on with the new tokens, log out.
  app.useToken(good(await app.refresh(tokens.refresh_token)).access_token);
  assert.equal(good(await app.getOwnAccount()).id, good(account).id);
  assert.equal(good(await app.exportOwnAccount()).notes[0]?.title, "Rye");
  assert.equal((await app.logOut()).status, 204);
  assert.equal((await app.listNotes()).problem?.code, "not_authenticated");
  console.log("done");
}
