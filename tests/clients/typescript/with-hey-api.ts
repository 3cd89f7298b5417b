/** `@hey-api/openapi-ts` with its own client on `fetch`. */
import { client } from "./hey-api/client.gen";
import * as api from "./hey-api/sdk.gen";
import type { Problem } from "./hey-api/types.gen";
import { type Answer, base, walk } from "./walk";

let access = "";
client.setConfig({ baseUrl: base, auth: () => access });

async function told<T>(sent: Promise<{ data?: T; error?: Problem; response?: Response }>): Promise<Answer<T>> {
  const { data, error, response } = await sent;
  return { status: response!.status, headers: response!.headers, data, problem: error };
}

await walk({
  useToken: (token) => void (access = token),
  signUp: (body) => told(api.signUp({ body })),
  logIn: (body) => told(api.logIn({ body })),
  refresh: (refresh_token) => told(api.refreshTokens({ body: { refresh_token } })),
  logOut: () => told(api.logOut({ body: {} })),
  getOwnAccount: () => told(api.getOwnAccount()),
  exportOwnAccount: () => told(api.exportOwnAccount()),
  createNotebook: (body) => told(api.createNotebook({ body })),
  createNote: (body, key) => told(api.createNote({ headers: { "Idempotency-Key": key }, body })),
  changeNote: (id, body, ifMatch) => told(api.changeNote({ path: { id }, headers: { "If-Match": ifMatch }, body })),
  listNotes: (query) => told(api.listNotes({ query })),
  createGym: (body) => told(api.createGym({ body })),
  rateGyms: (body) => told(api.rateGyms({ body })),
  listChanges: (types, cursor) => told(api.listChanges({ query: { types, cursor } })),
  sendBatch: (requests) => told(api.sendBatch({ body: { requests } })),
});
