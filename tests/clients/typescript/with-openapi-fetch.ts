/** `openapi-typescript` and `openapi-fetch`. */
import createClient from "openapi-fetch";
import type { components, paths } from "./openapi-typescript/api";
import { type Answer, base, walk } from "./walk";

let access = "";
const api = createClient<paths>({ baseUrl: base });
api.use({
  onRequest({ request }) {
    if (access) request.headers.set("Authorization", `Bearer ${access}`);
    return request;
  },
});

type Problem = components["schemas"]["Problem"];

async function told<T>(sent: Promise<{ data?: T; error?: Problem; response: Response }>): Promise<Answer<T>> {
  const { data, error, response } = await sent;
  return { status: response.status, headers: response.headers, data, problem: error };
}

await walk({
  useToken: (token) => void (access = token),
  signUp: (body) => told(api.POST("/v1/accounts", { body })),
  logIn: (body) => told(api.POST("/auth", { body })),
  refresh: (refresh_token) => told(api.POST("/auth/refresh", { body: { refresh_token } })),
  logOut: () => told(api.POST("/auth/logout", { body: {} })),
  getOwnAccount: () => told(api.GET("/v1/accounts/me")),
  exportOwnAccount: () => told(api.GET("/v1/accounts/me/export")),
  createNotebook: (body) => told(api.POST("/v1/notebooks", { body })),
  createNote: (body, key) => told(api.POST("/v1/notes", { params: { header: { "Idempotency-Key": key } }, body })),
  changeNote: (id, body, ifMatch) =>
    told(api.PATCH("/v1/notes/{id}", { params: { path: { id }, header: { "If-Match": ifMatch } }, body })),
  listNotes: (query) => told(api.GET("/v1/notes", { params: { query } })),
  createGym: (body) => told(api.POST("/v1/gyms", { body })),
  rateGyms: (body) => told(api.POST("/v1/functions/rate-gyms", { body })),
  listChanges: (types, cursor) => told(api.GET("/v1/changes", { params: { query: { types, cursor } } })),
  sendBatch: (requests) => told(api.POST("/v1/batch", { body: { requests } })),
});
