"""The Python of docs/verifying.md, against a server and against the vectors."""

import base64
import json
import os
import urllib.parse
import urllib.request
from pathlib import Path
from unittest import mock

import jwt.api_jwt
import revocations
import scopes
import verifying

VECTORS = Path(os.environ["TENMINT_VECTORS"])
ORG = os.environ["TENMINT_ORG"]
TOKEN = os.environ["TENMINT_TOKEN"]


def check(name, passed, saw=""):
    if not passed:
        raise SystemExit(f"not ok {name}: {saw}")
    print(f"ok {name}", flush=True)


def outcome(token):
    try:
        return verifying.verify(token)
    except jwt.PyJWTError as error:
        return type(error).__name__


def against_a_server():
    claims = outcome(TOKEN)
    check("the Python of the page accepts a token", claims["org"] == ORG, claims)
    head, payload, signature = TOKEN.split(".")
    other = "B" if signature[0] == "A" else "A"
    for name, token in (
        ("a tampered signature", f"{head}.{payload}.{other}{signature[1:]}"),
        ("a token for another audience", os.environ["TENMINT_OTHER_TOKEN"]),
        ("a token of another server", os.environ["TENMINT_FOREIGN_TOKEN"]),
        ("the revocation feed", os.environ["TENMINT_FEED"]),
    ):
        saw = outcome(token)
        check(f"the Python of the page refuses {name}", isinstance(saw, str), saw)

    held = {**claims, "scope": "read:projects/?"}
    answers = [scopes.may_read(held, org, "a/b") for org in (ORG, "org_other")]
    check("the Python of the page asks for organization and scope", answers == [True, False])

    heard = revocations.Revocations()
    heard.poll()
    before = heard.voids(claims)
    key = f"{os.environ['TENMINT_CLIENT_ID']}:{os.environ['TENMINT_CLIENT_SECRET']}"
    request = urllib.request.Request(
        f"{verifying.ISSUER}/oauth/revoke",
        urllib.parse.urlencode({"token": TOKEN}).encode(),
        {"Authorization": "Basic " + base64.b64encode(key.encode()).decode()},
    )
    urllib.request.urlopen(request, timeout=20).close()
    heard.poll()
    saw = before, heard.voids(claims)
    check("the Python of the page hears of a revoked token", saw == (False, True), saw)


def against_the_vectors():
    file = json.loads((VECTORS / "tokens.json").read_text("utf-8"))
    clock = mock.Mock(wraps=jwt.api_jwt.datetime)
    clock.now.return_value.timestamp.return_value = file["now"]
    keys = mock.Mock(fetch_data=lambda: file["jwks"])
    jwks = jwt.PyJWKClient("http://127.0.0.1/jwks.json")
    with (
        mock.patch.object(jwt.api_jwt, "datetime", clock),
        mock.patch.object(jwks, "fetch_data", keys.fetch_data),
        mock.patch.multiple(verifying, JWKS=jwks, ISSUER=file["issuer"], AUDIENCE=file["audience"]),
    ):
        wrong = [case["name"] for case in judged(file) if is_valid(case) != (case["expect"] == "valid")]
    check("the Python of the page does what the vectors say of a token", not wrong, wrong)

    wrong = []
    for case in json.loads((VECTORS / "revocations.json").read_text("utf-8"))["cases"]:
        heard = revocations.Revocations()
        heard.apply(case["void"])
        if heard.voids(case["claims"]) != case["revoked"]:
            wrong.append(case)
    check("the Python of the page does what the vectors say of a feed", not wrong, wrong)


def is_valid(case):
    return isinstance(outcome(case["token"]), dict)


def judged(file):
    """Without those for a strict verifier, without leeway, or signed as no key of ours is."""
    for case in file["cases"]:
        close = case["name"].endswith(("at this moment", "in a second"))
        other = case["name"] in ("signed by EdDSA", "signed by RS256")
        if not (case.get("strict") or close or other):
            yield case


against_a_server()
against_the_vectors()
