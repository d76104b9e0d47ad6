// The whole way of an application by openid-client, unchanged: discovery, the user's consent
// through the API, tokens, their use, refresh, introspection, revocation. What it needs comes as
// JSON on standard input; whatever is not as it should be ends it with an error.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as client from 'openid-client';

const given = JSON.parse(readFileSync(0, 'utf8'));
const methods = {
  client_secret_basic: () => client.ClientSecretBasic(given.client_secret),
  client_secret_post: () => client.ClientSecretPost(given.client_secret),
  none: () => client.None(),
};

const config = await client.discovery(
  new URL(given.url),
  given.client_id,
  undefined,
  methods[given.method](),
  // A loopback server of a test has no https.
  { algorithm: 'oauth2', execute: [client.allowInsecureRequests] },
);
assert.ok(config.serverMetadata().supportsPKCE());

const verifier = client.randomPKCECodeVerifier();
const state = client.randomState();
const url = client.buildAuthorizationUrl(config, {
  redirect_uri: given.redirect_uri,
  scope: 'containers:read profile',
  code_challenge: await client.calculatePKCECodeChallenge(verifier),
  code_challenge_method: 'S256',
  state,
});

// The user: the address leads to the page, and the page's question is answered.
const asked = await fetch(url, { redirect: 'manual' });
assert.equal(asked.status, 302);
const page = new URL(asked.headers.get('location'), given.url);
assert.equal(page.pathname, '/oauth/consent');
const question = Object.fromEntries(page.searchParams);
const decided = await fetch(new URL('/api/v1/oauth/authorize', given.url), {
  method: 'POST',
  headers: {
    'content-type': 'application/json',
    'x-csrf-token': given.csrf,
    cookie: given.cookie,
  },
  body: JSON.stringify({ ...question, approved: true }),
});
assert.equal(decided.status, 200, await decided.clone().text());
const back = new URL((await decided.json()).data.redirect_url);

// It checks the issuer of the answer, for the metadata says that there is one.
const tokens = await client.authorizationCodeGrant(config, back, {
  pkceCodeVerifier: verifier,
  expectedState: state,
});
assert.equal(tokens.token_type, 'bearer');
assert.equal(tokens.expires_in, 900);
assert.equal(tokens.scope, 'containers:read profile');

const me = (token) =>
  client.fetchProtectedResource(
    config,
    token,
    new URL('/api/v1/auth/me', given.url),
    'GET',
  );
const told = await (await me(tokens.access_token)).json();
assert.equal(told.data.auth_method, 'oauth');

const fresh = await client.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(fresh.refresh_token, tokens.refresh_token);
assert.equal((await me(fresh.access_token)).status, 200);

if (given.method !== 'none') {
  const worth = await client.tokenIntrospection(config, fresh.access_token);
  assert.equal(worth.active, true);
  assert.equal(worth.client_id, given.client_id);
  assert.equal(worth.iss, given.url);
}
await client.tokenRevocation(config, fresh.refresh_token);
await assert.rejects(me(fresh.access_token), /401|unauthorized|challenge/i);
await assert.rejects(client.refreshTokenGrant(config, fresh.refresh_token), {
  error: 'invalid_grant',
});
console.log(
  JSON.stringify({
    secrets: [
      tokens.access_token,
      tokens.refresh_token,
      fresh.access_token,
      fresh.refresh_token,
    ],
  }),
);
