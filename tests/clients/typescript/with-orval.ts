/** `orval` with its client on `fetch`. */
import * as api from "./orval/api";
import { useToken } from "./orval-fetch";
import { type Answer, walk } from "./walk";

type Sent = { status: number; headers: Headers; data: unknown };
/** The answer of the one status that is a success: a problem has a `code`. */
type Good<S extends Sent> = Exclude<S["data"], { code: string }>;

async function told<S extends Sent>(sent: Promise<S>): Promise<Answer<Good<S>>> {
  const { status, headers, data } = await sent;
  return status < 400 ? { status, headers, data: data as Good<S> } : { status, headers, problem: data as { code: string } };
}

await walk({
  useToken,
  signUp: (body) => told(api.signUp(body)),
  logIn: (body) => told(api.logIn(body)),
  refresh: (refresh_token) => told(api.refreshTokens({ refresh_token })),
  logOut: () => told(api.logOut({})),
  getOwnAccount: () => told(api.getOwnAccount()),
  exportOwnAccount: () => told(api.exportOwnAccount()),
  createNotebook: (body) => told(api.createNotebook(body)),
  createNote: (body, key) => told(api.createNote(body, { headers: { "Idempotency-Key": key } })),
  changeNote: (id, body, ifMatch) => told(api.changeNote(id, body, { headers: ifMatch ? { "If-Match": ifMatch } : {} })),
  listNotes: (query) => told(api.listNotes(query)),
  createGym: (body) => told(api.createGym(body)),
  rateGyms: (body) => told(api.rateGyms(body)),
  listChanges: (types, cursor) => told(api.listChanges({ types, cursor })),
  sendBatch: (requests) => told(api.sendBatch({ requests })),
});
