// A certified OpenID Provider with its own pages for login and consent, for the tests to sign in
// through. Arguments: port, the relying party's callback. Whoever signs in as NAME is
// NAME@example.org; "unsure…" has an address that is not verified, "boss…" is in the group hzel-admins.
// GET /rotate makes it sign with another key from then on.
import { generateKeyPairSync } from "node:crypto";
import http from "node:http";
import Provider from "oidc-provider";

const [port, callback] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

function key() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid: crypto.randomUUID() };
}

const states = new Map();
// Keeps what the provider remembers across a rotation, which makes a new provider.
class Adapter {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) {
    states.set(this.key(id), payload);
    if (payload.uid) states.set(`uid:${this.name}:${payload.uid}`, id);
  }
  async find(id) { return states.get(this.key(id)); }
  async findByUid(uid) { return this.find(states.get(`uid:${this.name}:${uid}`)); }
  async findByUserCode() { return undefined; }
  async consume(id) { const kept = states.get(this.key(id)); if (kept) kept.consumed = Math.floor(Date.now() / 1000); }
  async destroy(id) { states.delete(this.key(id)); }
  async revokeByGrantId(grant) {
    for (const [name, payload] of states) if (payload?.grantId === grant) states.delete(name);
  }
}

function provider() {
  return new Provider(issuer, {
    adapter: Adapter,
    clients: [{
      client_id: "hzel",
      client_secret: "the-client-secret-of-the-tests",
      redirect_uris: [callback],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: async () => ({
        sub: id,
        name: `The ${id}`,
        email: `${id}@example.org`,
        email_verified: !id.startsWith("unsure"),
        groups: id.startsWith("boss") ? ["people", "hzel-admins"] : ["people"],
      }),
    }),
    cookies: { keys: ["only for tests"] },
    jwks: { keys: [key()] },
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
  });
}

let handle = provider().callback();
http
  .createServer((request, response) => {
    if (request.url === "/rotate") {
      handle = provider().callback();
      response.end("rotated");
    } else {
      handle(request, response);
    }
  })
  .listen(Number(port), "127.0.0.1", () => console.log(`ready on ${issuer}`));
