// What one writes without a framework in Node: its own server and MongoDB's driver. No validation, no log.
//
// It verifies the token on each request and reads and writes the caller's own notes only.
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const { MongoClient, ObjectId } = createRequire(`${process.env.BENCH_MODULES}/`)("mongodb");
const SECRET = process.env.BENCH_SECRET;
const FIELDS = ["title", "body", "tags", "pinned", "priority", "due", "place", "checklist", "notebook"];
const notes = new MongoClient(process.env.BENCH_URI).db().collection("notes");

const sealed = (text) => createHmac("sha256", SECRET).update(text).digest();
const encoded = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function signed(claims) {
  const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded(claims)}`;
  return `${text}.${sealed(text).toString("base64url")}`;
}

// The claims of a token; nothing for one that is not ours, whose time is up, or that is for something else.
function verified(token, audience) {
  const [head, claims, mac] = (token ?? "").split(".");
  const given = Buffer.from(mac ?? "", "base64url");
  const own = sealed(`${head}.${claims}`);
  if (given.length !== own.length || !timingSafeEqual(given, own)) return undefined;
  const found = JSON.parse(Buffer.from(claims, "base64url"));
  return found.exp > Date.now() / 1000 && found.aud === audience ? found : undefined;
}

const shaped = ({ _id, ...note }) => ({ ...note, id: _id });

function received(body) {
  const sent = JSON.parse(body);
  const found = Object.fromEntries(FIELDS.filter((name) => name in sent).map((name) => [name, sent[name]]));
  if ("due" in found) found.due = new Date(found.due);
  return found;
}

async function one(found) {
  const note = await found;
  return note ? [200, shaped(note)] : [404, { error: "not found" }];
}

async function page(owner, asked) {
  const condition = { owner, pinned: asked.get("pinned") === "true" };
  const sort = { updated_at: -1, _id: -1 };
  const found = await notes.find(condition, { sort, limit: Number(asked.get("limit")) }).toArray();
  return [200, { items: found.map(shaped) }];
}

async function create(owner, body) {
  const moment = new Date();
  const stamps = { owner, created_at: moment, updated_at: moment, revision: 1 };
  const note = { _id: new ObjectId().toHexString(), ...received(body), ...stamps };
  await notes.insertOne(note);
  return [201, shaped(note)];
}

function patch(condition, body) {
  const update = { $set: { ...received(body), updated_at: new Date() }, $inc: { revision: 1 } };
  return one(notes.findOneAndUpdate(condition, update, { returnDocument: "after" }));
}

function refresh(body) {
  const claims = verified(JSON.parse(body).refresh_token, "refresh");
  if (!claims) return [401, { error: "not authenticated" }];
  const issued = Math.floor(Date.now() / 1000);
  const common = { sub: claims.sub, iat: issued };
  const tokens = {
    access_token: signed({ ...common, exp: issued + 300 }),
    refresh_token: signed({ ...common, exp: issued + 86400, aud: "refresh" }),
  };
  return [200, tokens];
}

async function answer(request, body) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/refresh") return refresh(body);
  const claims = verified(request.headers.authorization?.replace("Bearer ", ""));
  if (!claims) return [401, { error: "not authenticated" }];
  if (url.pathname === "/notes") {
    return request.method === "POST" ? create(claims.sub, body) : page(claims.sub, url.searchParams);
  }
  const condition = { _id: url.pathname.slice("/notes/".length), owner: claims.sub };
  return request.method === "PATCH" ? patch(condition, body) : one(notes.findOne(condition));
}

createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    const [status, value] = await answer(request, Buffer.concat(parts));
    const text = JSON.stringify(value);
    response.writeHead(status, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
    response.end(text);
  });
}).listen(Number(process.argv[2]), "127.0.0.1");
