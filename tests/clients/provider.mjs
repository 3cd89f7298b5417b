// A certified OpenID provider, as its library ships it: `node provider.mjs <port> <algorithm> [<callback>]`, with keys of its own.
// Whoever writes a name into its page is that person. It ends when its standard input does.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import Provider from "oidc-provider";

const [port, algorithm, callback] = [Number(process.argv[2]), process.argv[3], process.argv[4]];

function key(type, options, alg) {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: "jwk" }), kid: randomUUID(), alg, use: "sig" };
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "com.example.notes",
      application_type: "native",
      token_endpoint_auth_method: "none",
      redirect_uris: ["com.example.notes:/callback"],
      grant_types: ["authorization_code"],
      response_types: ["code"],
      id_token_signed_response_alg: algorithm,
    },
    ...(callback
      ? [
          {
            client_id: "com.example.notes.web",
            client_secret: "a secret that the two share",
            redirect_uris: [callback],
            grant_types: ["authorization_code", "refresh_token"],
            response_types: ["code"],
            id_token_signed_response_alg: algorithm,
          },
        ]
      : []),
  ],
  jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
  cookies: { keys: [randomUUID()] },
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  features: { revocation: { enabled: true } },
  ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 60, IdToken: 600, Interaction: 60, Session: 60 },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: !id.startsWith("unverified") }),
  }),
});
provider.listen(port, "127.0.0.1", () => console.log("ready"));
process.stdin.resume().on("end", () => process.exit());
