"""Authlib and requests-oauthlib fetch tokens; PyJWT verifies them from the JWKS alone."""

import base64
import json
import os
import time

import jwt
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error, TokenExpiredError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

TOKEN_URL = os.environ["TENMINT_TOKEN_URL"]
ISSUER = os.environ["TENMINT_ISSUER"]
CLIENT_ID = os.environ["TENMINT_CLIENT_ID"]
SECRET = os.environ["TENMINT_CLIENT_SECRET"]
WRONG = os.environ["TENMINT_WRONG_SECRET"]
AUDIENCE = os.environ["TENMINT_AUDIENCE"]
SHORT_TOKEN_URL = os.environ["TENMINT_SHORT_TOKEN_URL"]
SHORT_ID = os.environ["TENMINT_SHORT_CLIENT_ID"]
SHORT_SECRET = os.environ["TENMINT_SHORT_CLIENT_SECRET"]
ALL = os.environ["TENMINT_SCOPE"].split()
ONE = os.environ["TENMINT_ONE_SCOPE"]
BAD = os.environ["TENMINT_BAD_SCOPE"]


def check(name, passed, saw=""):
    if not passed:
        raise SystemExit(f"not ok {name}: {saw}")
    print(f"ok {name}", flush=True)


def error_of(call, kind):
    """The OAuth error code that `call` raises, or what it did instead."""
    try:
        call()
    except kind as error:
        return error.error
    return "no error"


def granted(token, scopes):
    return (
        token["token_type"] == "Bearer"
        and token["expires_in"] == 600
        and scopes_of(token) == sorted(scopes)
    )


def scopes_of(token):
    scope = token["scope"]
    return sorted(scope.split() if isinstance(scope, str) else scope)


def authlib(secret, method, **more):
    return AuthlibSession(CLIENT_ID, secret, token_endpoint_auth_method=method, **more)


def check_authlib():
    for way, method in (("Basic", "client_secret_basic"), ("post", "client_secret_post")):

        def fetch(secret=SECRET, **more):
            return authlib(secret, method).fetch_token(
                TOKEN_URL, grant_type="client_credentials", **more
            )

        token = fetch()
        check(f"Authlib by {way} gets every scope of the key", granted(token, ALL), token["scope"])
        token = fetch(scope=ONE)
        check(f"Authlib by {way} gets the scope it asks for", granted(token, [ONE]), token["scope"])
        saw = error_of(lambda: fetch(WRONG), OAuthError)
        check(f"Authlib by {way} with a wrong secret sees invalid_client", saw == "invalid_client", saw)
        saw = error_of(lambda: fetch(scope=BAD), OAuthError)
        check(f"Authlib by {way} with a bad scope sees invalid_scope", saw == "invalid_scope", saw)

    def holder(client_id, secret, url):
        renewed = []
        session = AuthlibSession(
            client_id,
            secret,
            token_endpoint=url,
            grant_type="client_credentials",
            update_token=lambda token, **_: renewed.append(token["access_token"]),
        )
        return session, renewed, session.fetch_token()["access_token"]

    session, renewed, first = holder(CLIENT_ID, SECRET, TOKEN_URL)
    session.get(f"{ISSUER}/readyz")
    check("Authlib keeps a token that is good", not renewed, "it fetched another")
    session.token = {**session.token, "expires_at": int(time.time()) - 1}
    session.get(f"{ISSUER}/readyz")
    check("Authlib renews an expired token", len(renewed) == 1 and renewed[0] != first, len(renewed))
    session, renewed, first = holder(SHORT_ID, SHORT_SECRET, SHORT_TOKEN_URL)
    session.get(f"{ISSUER}/readyz")
    check("Authlib renews a token that lives 60 s", len(renewed) == 1 and renewed[0] != first, len(renewed))


def check_requests_oauthlib():
    def session():
        return OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID))

    def by_basic(secret=SECRET, scope=None):
        return session().fetch_token(TOKEN_URL, auth=HTTPBasicAuth(CLIENT_ID, secret), scope=scope)

    def by_basic_and_id(secret=SECRET, scope=None):
        return session().fetch_token(
            TOKEN_URL, auth=HTTPBasicAuth(CLIENT_ID, secret), include_client_id=True, scope=scope
        )

    def by_post(secret=SECRET, scope=None):
        return session().fetch_token(
            TOKEN_URL, client_secret=secret, include_client_id=True, scope=scope
        )

    for way, fetch in (
        ("Basic", by_basic),
        ("Basic with the id in the body", by_basic_and_id),
        ("post", by_post),
    ):
        name = f"requests-oauthlib by {way}"
        token = fetch()
        check(f"{name} gets every scope of the key", granted(token, ALL), token["scope"])
        # it raises when the scopes of the answer are not those it asked for
        token = fetch(scope=[ONE, "chat"])
        check(f"{name} gets the scopes it asks for", granted(token, [ONE, "chat"]), token["scope"])
        saw = error_of(lambda: fetch(WRONG), OAuth2Error)
        check(f"{name} with a wrong secret sees invalid_client", saw == "invalid_client", saw)
        saw = error_of(lambda: fetch(scope=[BAD]), OAuth2Error)
        check(f"{name} with a bad scope sees invalid_scope", saw == "invalid_scope", saw)

    client = session()
    auth = HTTPBasicAuth(CLIENT_ID, SECRET)
    first = client.fetch_token(TOKEN_URL, auth=auth)["access_token"]
    client.token = {**client.token, "expires_at": time.time() - 1}
    try:
        client.get(f"{ISSUER}/readyz")
        saw = "used the expired token"
    except TokenExpiredError:
        saw = client.fetch_token(TOKEN_URL, auth=auth)["access_token"]
    check("requests-oauthlib renews an expired token", saw.count(".") == 2 and saw != first)


def fetch_for(client_id, secret, url=TOKEN_URL):
    session = AuthlibSession(client_id, secret, scope=ONE)
    return session.fetch_token(url, grant_type="client_credentials")["access_token"]


def tampered_payload(token):
    head, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["scope"] = "*:*"
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{forged}.{signature}"


def tampered_signature(token):
    head, payload, signature = token.split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def check_pyjwt():
    def verifier(issuer, algorithm):
        jwks = jwt.PyJWKClient(f"{issuer}/.well-known/jwks.json")

        def verify(token, **more):
            return jwt.decode(
                token,
                jwks.get_signing_key_from_jwt(token),
                algorithms=[algorithm],
                audience=AUDIENCE,
                issuer=issuer,
                **more,
            )

        return verify

    verify = verifier(ISSUER, "ES256")

    def refuses(name, kind, token, **more):
        try:
            verify(token, **more)
            saw = "accepted"
        except jwt.PyJWTError as error:
            saw = type(error).__name__
        check(f"PyJWT refuses {name}", saw == kind.__name__, saw)

    token = fetch_for(CLIENT_ID, SECRET)
    claims = verify(token)
    want = {"scope": ONE, "org": os.environ["TENMINT_ORG"], "client_id": CLIENT_ID}
    saw = {name: claims.get(name) for name in want}
    check("PyJWT accepts a token and reads scope, org and client_id", saw == want, saw)
    refuses("a tampered payload", jwt.InvalidSignatureError, tampered_payload(token))
    refuses("a tampered signature", jwt.InvalidSignatureError, tampered_signature(token))
    # its clock has no setting: a negative leeway sets it ahead, for `iat` the wrong way round
    refuses(
        "an expired token",
        jwt.ExpiredSignatureError,
        token,
        leeway=-601,
        options={"verify_iat": False},
    )
    other = fetch_for(
        os.environ["TENMINT_OTHER_CLIENT_ID"], os.environ["TENMINT_OTHER_CLIENT_SECRET"]
    )
    refuses("a token for another audience", jwt.InvalidAudienceError, other)
    foreign = fetch_for(SHORT_ID, SHORT_SECRET, SHORT_TOKEN_URL)
    refuses("a token of another server", jwt.PyJWKClientError, foreign)

    issuer = os.environ["TENMINT_RSA_ISSUER"]
    client_id = os.environ["TENMINT_RSA_CLIENT_ID"]
    token = fetch_for(client_id, os.environ["TENMINT_RSA_CLIENT_SECRET"], f"{issuer}/oauth/token")
    saw = verifier(issuer, "RS256")(token)["client_id"]
    check("PyJWT accepts an RS256 token", saw == client_id, saw)


check_authlib()
check_requests_oauthlib()
check_pyjwt()
