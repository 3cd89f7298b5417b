/** What an app does, with the generated client against a real service; `make clients` and the tests run it. */
import assert from "node:assert/strict";
import createClient, { type Middleware } from "openapi-fetch";
import type { components, paths } from "./api";

const base = process.argv[2]!;
const person = { username: `ada-${crypto.randomUUID().slice(0, 8)}`, password: "correct horse battery" };
let access = "";
const signedIn: Middleware = {
  onRequest({ request }) {
    if (access) request.headers.set("Authorization", `Bearer ${access}`);
    return request;
  },
};
const api = createClient<paths>({ baseUrl: base });
api.use(signedIn);

// Sign up and log in.
const account = await api.POST("/v1/accounts", { body: person });
assert.equal(account.response.status, 201);
assert.equal(account.data?.username, person.username);
const login = await api.POST("/auth", { body: { ...person, device: "walk" } });
assert.ok(login.data);
access = login.data.access_token;

// Create, with a key; sent again, it is done once.
const key = crypto.randomUUID();
const note: components["schemas"]["NoteCreate"] = { title: "Bread", priority: 1, place: { type: "Point", coordinates: [127, 37.5] } };
const create = () => api.POST("/v1/notes", { params: { header: { "Idempotency-Key": key } }, body: note });
const made = await create();
const again = await create();
assert.ok(made.data);
assert.deepEqual(again.data, made.data);
assert.equal(again.response.headers.get("Idempotent-Replayed"), "true");
const { id, revision } = made.data;

// List with `where`, and what a reference points to.
const book = await api.POST("/v1/notebooks", { body: { title: "Kitchen" } });
assert.ok(book.data);
await api.PATCH("/v1/notes/{id}", { params: { path: { id } }, body: { notebook: book.data.id } });
const page = await api.GET("/v1/notes", {
  params: { query: { where: JSON.stringify({ title: "Bread" }), sort: "-priority,due", expand: "notebook", scope: "mine" } },
});
assert.deepEqual(page.data?.items.map((item) => [item.id, item.notebook, item.expanded?.notebook?.title]), [[id, book.data.id, "Kitchen"]]);

// Operators; and a change that was made on what is no longer there.
const counted = await api.PATCH("/v1/notes/{id}", {
  params: { path: { id } },
  body: { $inc: { priority: 2 }, $push: { tags: { each: ["home"] } } },
});
assert.deepEqual([counted.data?.priority, counted.data?.tags], [3, ["home"]]);
const late = await api.PATCH("/v1/notes/{id}", {
  params: { path: { id }, header: { "If-Match": `"${revision}"` } },
  body: { title: "Late" },
});
assert.equal(late.response.status, 412);
assert.equal(late.error?.code, "revision_mismatch");

// Many at once.
const batch = await api.POST("/v1/batch", {
  body: { requests: [{ method: "PATCH", path: `/v1/notes/${id}`, body: { title: "Rye" } }, { method: "GET", path: "/v1/notes/none" }] },
});
assert.deepEqual(batch.data?.responses.map((part) => part.status), [200, 404]);

// Refresh, go on with the new tokens, log out.
const fresh = await api.POST("/auth/refresh", { body: { refresh_token: login.data.refresh_token } });
assert.ok(fresh.data);
access = fresh.data.access_token;
assert.equal((await api.GET("/v1/accounts/me")).data?.id, account.data?.id);
assert.equal((await api.GET("/v1/accounts/me/export")).data?.notes[0]?.title, "Rye");
assert.equal((await api.POST("/auth/logout", { body: {} })).response.status, 204);
assert.equal((await api.GET("/v1/notes")).error?.code, "not_authenticated");
console.log("done");
