"""The whole way of an application by Authlib, unchanged: metadata, the user's consent on the page,
tokens, their use, refresh, introspection, revocation. What it needs comes as JSON on standard
input; whatever is not as it should be ends it with an error."""

import json
import os
import sys
from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

# Authlib wants https, and a loopback server of a test has none.
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session, OAuthError


class Form(HTMLParser):
    """The fields of the form with that id."""

    def __init__(self, name):
        super().__init__()
        self.name, self.inside = name, False
        self.action, self.fields = None, {}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.inside = attributes.get("id") == self.name
            if self.inside:
                self.action = attributes["action"]
        elif tag == "input" and self.inside:
            self.fields[attributes["name"]] = attributes.get("value", "")

    def handle_endtag(self, tag):
        if tag == "form":
            self.inside = False


def consent(url, cookie):
    """What a user does: open the address, press the button; answers where that leads."""
    name, value = cookie.split("=", 1)
    browser = requests.Session()
    browser.trust_env = False
    browser.cookies.set(name, value)
    page = browser.get(url)
    assert page.status_code == 200, (page.status_code, page.text)
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"], page.headers
    form = Form("consent")
    form.feed(page.text)
    fields = {**form.fields, "decision": "approve"}
    answer = browser.post(urljoin(page.url, form.action), data=fields, allow_redirects=False)
    assert answer.status_code == 303, (answer.status_code, answer.text)
    return answer.headers["location"]


def main():
    given = json.load(sys.stdin)
    base = given["url"]
    metadata = requests.get(f"{base}/.well-known/oauth-authorization-server").json()
    assert metadata["issuer"] == base, metadata
    method = given["method"]
    session = OAuth2Session(
        given["client_id"],
        given.get("client_secret"),
        scope="containers:read profile",
        redirect_uri=given["redirect_uri"],
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        code_challenge_method="S256",
    )
    session.trust_env = False
    verifier = generate_token(64)
    url, state = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier
    )
    back = consent(url, given["cookie"])
    answer = parse_qs(urlsplit(back).query)
    assert answer["state"] == [state] and answer["iss"] == [base], back
    assert back.startswith(given["redirect_uri"] + "?"), back

    token = session.fetch_token(
        metadata["token_endpoint"],
        authorization_response=back,
        code_verifier=verifier,
        state=state,
    )
    assert token["token_type"] == "Bearer" and token["expires_in"] == 900, "kind and life"
    assert token["scope"] == "containers:read profile", token["scope"]
    me = session.get(f"{base}/api/v1/auth/me")
    assert me.status_code == 200 and me.json()["data"]["auth_method"] == "oauth", me.text
    assert session.get(f"{base}/api/v1/containers").status_code == 200
    assert session.get(f"{base}/api/v1/tokens").status_code == 403

    first = token["refresh_token"]
    fresh = session.refresh_token(metadata["token_endpoint"], refresh_token=first)
    assert fresh["refresh_token"] != first, "refresh tokens rotate"
    assert session.get(f"{base}/api/v1/auth/me").status_code == 200

    if method != "none":
        told = session.introspect_token(
            metadata["introspection_endpoint"], token=fresh["access_token"]
        ).json()
        assert told["active"] and told["client_id"] == given["client_id"], told
    revoked = session.revoke_token(
        metadata["revocation_endpoint"],
        token=fresh["refresh_token"],
        token_type_hint="refresh_token",
    )
    assert revoked.status_code == 200, revoked.text
    gone = requests.get(
        f"{base}/api/v1/auth/me",
        headers={"authorization": f"Bearer {fresh['access_token']}"},
    )
    assert gone.status_code == 401, gone.text
    try:
        session.refresh_token(metadata["token_endpoint"], refresh_token=fresh["refresh_token"])
    except OAuthError as error:
        assert error.error == "invalid_grant", error
    else:
        raise AssertionError("a revoked refresh token was taken")
    secrets = [token["access_token"], first, fresh["access_token"], fresh["refresh_token"]]
    print(json.dumps({"secrets": secrets}))


main()
