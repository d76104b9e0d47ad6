// An OpenID Provider that signs everyone in at once, and lies as it is told to: its port is the
// first argument, and GET /lie?about=nonce (audience, expired, issuer, signature, alg, unsigned,
// iss, subject, parties, nothing) decides for all sign-ins that come after.
import { createSign, generateKeyPairSync, randomUUID } from "node:crypto";
import http from "node:http";

const [port] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
let { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
const kid = randomUUID();
const attempts = new Map();
let lie = "nothing";

const text = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(nonce) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: issuer, sub: "someone", aud: "hzel", iat: now, exp: now + 60, nonce, email: "someone@example.org", email_verified: true };
  const header = { alg: "RS256", typ: "JWT", kid };
  let key = privateKey;
  switch (lie) {
    case "nonce": claims.nonce = "another"; break;
    case "audience": claims.aud = "another"; break;
    case "parties": claims.aud = ["hzel", "another"]; break;
    case "expired": claims.iat = now - 7200; claims.exp = now - 3600; break;
    case "subject": delete claims.email; break;
    case "issuer": claims.iss = "http://127.0.0.1:1"; break;
    case "signature": key = stranger; break;
    case "unsigned": header.alg = "none"; break;
    case "alg": header.alg = "HS256"; break;
  }
  const signed = `${text(header)}.${text(claims)}`;
  if (lie === "unsigned") return `${signed}.`;
  return `${signed}.${createSign("RSA-SHA256").update(signed).sign(key).toString("base64url")}`;
}

function answer(response, value) {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(value));
}

http
  .createServer((request, response) => {
    const url = new URL(request.url, issuer);
    switch (url.pathname) {
      case "/lie":
        lie = url.searchParams.get("about");
        response.end(lie);
        break;
      case "/.well-known/openid-configuration":
        answer(response, {
          issuer: lie === "discovery" ? "http://127.0.0.1:1" : issuer,
          authorization_endpoint: `${issuer}/authorize`,
          token_endpoint: `${issuer}/token`,
          userinfo_endpoint: `${issuer}/userinfo`,
          jwks_uri: `${issuer}/jwks`,
          response_types_supported: ["code"],
          subject_types_supported: ["public"],
          id_token_signing_alg_values_supported: ["RS256"],
          authorization_response_iss_parameter_supported: true,
        });
        break;
      case "/jwks":
        answer(response, { keys: [{ ...publicKey.export({ format: "jwk" }), use: "sig", alg: "RS256", kid }] });
        break;
      case "/authorize": {
        const code = randomUUID();
        attempts.set(code, url.searchParams.get("nonce"));
        const back = new URL(url.searchParams.get("redirect_uri"));
        back.searchParams.set("code", code);
        back.searchParams.set("state", url.searchParams.get("state"));
        if (lie === "iss") back.searchParams.set("iss", "http://127.0.0.1:1");
        else if (lie !== "silent") back.searchParams.set("iss", issuer);
        response.writeHead(303, { location: back.href }).end();
        break;
      }
      case "/token": {
        let body = "";
        request.on("data", (chunk) => { body += chunk; });
        request.on("end", () => {
          const nonce = attempts.get(new URLSearchParams(body).get("code"));
          answer(response, { access_token: "a", token_type: "Bearer", expires_in: 60, id_token: token(nonce) });
        });
        break;
      }
      case "/userinfo":
        answer(response, { sub: lie === "subject" ? "another" : "someone", name: "Someone" });
        break;
      default:
        response.writeHead(404).end();
    }
  })
  .listen(Number(port), "127.0.0.1", () => console.log(`ready on ${issuer}`));
