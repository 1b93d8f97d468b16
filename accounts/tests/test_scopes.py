"""
Which scope each operation asks for, written by hand from api.md and trust.md.

A table that was derived from the views could not catch a wrong view.
"""

import re

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from accounts import ids, scopes, tokens
from accounts.tests.http import ApiClient

METHODS = ("get", "post", "put", "patch", "delete")


def served(patterns=None, prefix=""):
    """Walk the resolver: (method, path, view class) of every operation under /v1."""
    found = []
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += served(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and path.startswith("v1/"):
            view = pattern.callback.view_class
            found += [(method.upper(), path[2:], view) for method in METHODS if hasattr(view, method)]
    return sorted(found, key=lambda operation: operation[:2])


PUBLIC = "public"
ANY = "any token"

# What exists now …
TABLE = {
    "POST /auth/challenges": PUBLIC,
    "POST /auth/tokens": PUBLIC,
    "GET /auth/tokens": "tokens:write",
    "DELETE /auth/tokens/{}": "tokens:write",
    "POST /auth/tokens/{}/rotation": "tokens:write",
    "POST /auth/revocation": "tokens:write",
    "POST /agents": PUBLIC,
    "GET /agents/{}": PUBLIC,
    "GET /me": ANY,
    "PATCH /me": "profile:write",
    "POST /me/deactivation": "profile:write",
    "GET /me/limits": ANY,
    "GET /me/keys": ANY,
    "POST /me/keys": "profile:write",
    "DELETE /me/keys/{}": "profile:write",
    "GET /events": "events:read",
    "GET /events/stream": "events:read",
    "GET /webhook-endpoints": "webhooks:write",
    "POST /webhook-endpoints": "webhooks:write",
    "GET /webhook-endpoints/{}": "webhooks:write",
    "PATCH /webhook-endpoints/{}": "webhooks:write",
    "DELETE /webhook-endpoints/{}": "webhooks:write",
    "POST /webhook-endpoints/{}/secret-rotation": "webhooks:write",
    "POST /webhook-endpoints/{}/test": "webhooks:write",
    "GET /webhook-endpoints/{}/deliveries": "webhooks:write",
    "POST /webhook-endpoints/{}/redeliveries": "webhooks:write",
    "POST /webhook-deliveries/{}/redelivery": "webhooks:write",
    "GET /wallet": "wallet:read",
    "GET /wallet/deposit-address": "wallet:read",
    "GET /wallet/deposits": "wallet:read",
    "GET /wallet/deposits/{}": "wallet:read",
    "POST /wallet/deposit-hints": "wallet:write",
    "GET /wallet/addresses": "wallet:read",
    "POST /wallet/addresses": "withdrawals:write",
    "DELETE /wallet/addresses/{}": "withdrawals:write",
    "GET /wallet/withdrawals": "wallet:read",
    "GET /wallet/withdrawals/{}": "wallet:read",
    "POST /wallet/withdrawals": "withdrawals:write",
    "DELETE /wallet/withdrawals/{}": "withdrawals:write",
    "GET /wallet/statement": "wallet:read",
    "GET /fees": PUBLIC,
    "GET /listings": PUBLIC,
    "POST /listings": "listings:write",
    "GET /listings/{}": PUBLIC,
    "PATCH /listings/{}": "listings:write",
    "GET /jobs": "jobs:read",
    "POST /jobs": "jobs:write",
    "GET /jobs/{}": "jobs:read",
    "GET /jobs/{}/timeline": "jobs:read",
    "POST /jobs/{}/offers": "jobs:write",
    "POST /jobs/{}/agreement": "jobs:write",
    "POST /jobs/{}/decline": "jobs:write",
    "POST /jobs/{}/funding": "jobs:write",
    "POST /jobs/{}/start": "jobs:write",
    "POST /jobs/{}/abort": "jobs:write",
    "POST /jobs/{}/approval": "jobs:write",
    "GET /jobs/{}/deliveries": "jobs:read",
    "POST /jobs/{}/deliveries": "jobs:write",
    "GET /jobs/{}/deliveries/{}": "jobs:read",
    "GET /jobs/{}/deliveries/{}/file": "jobs:read",
    "POST /jobs/{}/revisions": "jobs:write",
    "POST /jobs/{}/settlement-offers": "jobs:write",
    "DELETE /jobs/{}/settlement-offers": "jobs:write",
    "POST /jobs/{}/dispute": "disputes:write",
    "GET /disputes": "jobs:read",
    "GET /disputes/{}": "jobs:read",
    "POST /disputes/{}/answer": "disputes:write",
    "POST /disputes/{}/evidence": "disputes:write",
    "POST /disputes/{}/withdrawal": "disputes:write",
}
# … and what a later issue brings, under the scope it will have.
LATER = {
    "GET /solvency": PUBLIC,
    "POST /me/owner-claims": "profile:write",
    "GET /me/attestations": ANY,
    "POST /me/attestations": "profile:write",
    "DELETE /me/attestations/{}": "profile:write",
    "POST /me/stake": "wallet:write",
    "POST /me/stake-release": "wallet:write",
    "POST /jobs/{}/reviews": "jobs:write",
    "GET /agents/{}/reviews": PUBLIC,
    "POST /listings/{}/hire": "jobs:write",
    "POST /checks/dry-run": "jobs:write",
    "GET /jobs/{}/receipt": "jobs:read",
    "GET /calls": "jobs:read",
    "GET /calls/{}": "jobs:read",
    "POST /calls": "jobs:write",
    "GET /calls/{}/bids": "jobs:read",
    "POST /calls/{}/bids": "jobs:write",
    "DELETE /calls/{}/bids/{}": "jobs:write",
    "POST /calls/{}/award": "jobs:write",
    "POST /disputes/{}/answers": "disputes:write",
    "POST /disputes/{}/appeal": "disputes:write",
    "GET /disputes/{}/evidence/{}/file": "jobs:read",
    "GET /disputes/{}/pack": "jobs:read",
    "GET /precedents": "jobs:read",
}
DOCUMENTS = {"GET /openapi.json"}


def named(path):
    return re.sub(r"<[^>]+>", "{}", path)


def filled(path):
    path = re.sub(r"<uuid:[^>]+>", str(ids.uuid7()), path)
    return re.sub(r"<int:[^>]+>", "1", re.sub(r"<str:[^>]+>", "nobody", path))


OPERATIONS = [
    pytest.param(method, path, id=f"{method} {named(path)}")
    for method, path, _ in served()
    if f"{method} {named(path)}" not in DOCUMENTS
]


def test_every_operation_of_the_table_is_served():
    operations = {f"{method} {named(path)}" for method, path, _ in served()}

    assert set(TABLE) - operations == set()


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_operation_asks_for_its_scope(method, path, alice):
    scope = (TABLE | LATER)[f"{method} {named(path)}"]

    def asked(secret):
        send = getattr(ApiClient(secret).http, method.lower())
        headers = {"Idempotency-Key": str(ids.uuid7())} | ({"Authorization": f"Bearer {secret}"} if secret else {})
        answer = send(f"/v1{filled(path)}", **({} if method == "GET" else body()), headers=headers)
        if answer.streaming:
            return answer.status_code, None
        return answer.status_code, answer.json().get("code") if answer.content else None

    def body():
        return {"data": b"{}", "content_type": "application/json"}

    def with_scopes(*granted):
        return tokens.mint(alice, scopes=granted).secret

    if scope == PUBLIC:
        assert asked(None)[1] not in {"unauthenticated", "scope_missing"}
        return
    assert asked(None) == (401, "unauthenticated")
    if scope == ANY:
        assert asked(with_scopes())[1] not in {"unauthenticated", "scope_missing"}
        return
    others = [other for other in scopes.ALL if other != scope]
    assert asked(with_scopes(*others)) == (403, "scope_missing")
    assert asked(with_scopes(scope))[1] not in {"unauthenticated", "scope_missing"}
