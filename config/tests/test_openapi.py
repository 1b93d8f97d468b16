"""The OpenAPI document: complete, without a warning, and kept by every answer."""

import io
import itertools
import json
import re
from contextlib import redirect_stderr

import pytest
import schemathesis
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection, transaction
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, negative_data_rejection
from schemathesis.specs.openapi import checks

from accounts import clock, tokens
from accounts.events import stream, webhooks
from accounts.models import AgentKey
from accounts.scopes import ALL
from accounts.tests.signers import Signer
from config.wsgi import application
from marketplace.tests.trades import Trade

METHODS = ("get", "post", "put", "patch", "delete")
EXAMPLES = 4


@pytest.fixture(scope="module")
def document():
    return json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str))


@pytest.fixture(scope="module")
def operations(document):
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def walk(node):
    """Visit every object of the document."""
    if isinstance(node, dict):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(inner)


class TestDocument:
    def test_is_made_without_a_warning(self):
        GENERATOR_STATS.reset()
        printed = io.StringIO()

        with redirect_stderr(printed):
            document = SchemaGenerator().get_schema(request=None, public=True)
            GENERATOR_STATS.emit_summary()

        assert not GENERATOR_STATS, printed.getvalue()
        assert printed.getvalue() == ""
        validate_schema(document)

    def test_is_made_by_the_command_that_fails_on_warnings(self, tmp_path):
        GENERATOR_STATS.reset()

        strictly = ("--fail-on-warn", "--validate", "--format", "openapi-json")

        call_command("spectacular", *strictly, "--file", tmp_path / "api")

        assert json.loads((tmp_path / "api").read_text())["openapi"].startswith("3.1")

    @pytest.mark.django_db
    def test_is_served(self, document):
        answer = Client().get("/v1/openapi.json")

        assert answer.status_code == 200
        assert answer["Content-Type"] == "application/vnd.oai.openapi+json"
        assert answer.json()["openapi"] == "3.1.0"
        assert answer.json()["paths"].keys() == document["paths"].keys()

    def test_declares_how_to_authenticate(self, document):
        scheme = document["components"]["securitySchemes"]["token"]

        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")

    def test_names_every_operation_once_and_says_what_it_does(self, operations):
        ids = [operation["operationId"] for operation in operations.values()]

        assert len(ids) == len(set(ids))
        assert [name for name, operation in operations.items() if not operation.get("description")] == []

    def test_describes_a_refusal_in_every_operation(self, operations):
        for name, operation in operations.items():
            refusal = operation["responses"]["default"]["content"]
            assert refusal == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, name

    def test_says_of_every_operation_whether_it_needs_a_token(self, operations):
        assert {str(operation["security"]) for operation in operations.values()} <= {
            "[{'token': []}]",
            "[{}]",
            "[{}, {'token': []}]",
        }

    def test_names_scopes_that_exist(self, operations):
        assert {operation["x-scope"] for operation in operations.values() if "x-scope" in operation} <= set(ALL)

    def test_takes_a_key_wherever_something_is_written(self, operations):
        for name, operation in operations.items():
            headers = {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}
            resumes = {"Last-Event-ID"} if name == "GET /v1/events/stream" else set()
            assert headers == (resumes if name.startswith("GET") else {"Idempotency-Key"}), name

    @pytest.mark.parametrize(
        "name",
        [
            "POST /v1/jobs/{job_id}/funding",
            "POST /v1/wallet/withdrawals",
            "POST /v1/jobs/{job_id}/settlement-offers",
            "POST /v1/jobs/{job_id}/dispute",
        ],
    )
    def test_requires_the_key_for_money(self, operations, name):
        (key,) = [p for p in operations[name]["parameters"] if p["name"] == "Idempotency-Key"]

        assert key["required"] is True

    def test_bounds_every_whole_number_that_comes_in(self, document, operations):
        """A number that no column holds must be refused as a field, not by the database."""
        unbounded = []
        for name, operation in operations.items():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                for schema in _with_references(body["schema"], document):
                    for field, shape in schema.get("properties", {}).items():
                        whole = "integer" in str(shape.get("type"))
                        if whole and not (shape.get("minimum", -(2**64)) >= 0 and shape.get("maximum", 2**64) < 2**63):
                            unbounded.append(f"{name}: {field}")
        assert unbounded == []


def _with_references(schema, document):
    for node in walk(schema):
        yield node
        if "$ref" in node:
            yield from _with_references(document["components"]["schemas"][node["$ref"].rpartition("/")[2]], document)


# Scopes by operation, written by hand from api.md and trust.md.
SCOPES = {
    "POST /v1/auth/challenges": None,
    "POST /v1/agents": None,
    "GET /v1/agents/{name}": None,
    "GET /v1/me": None,
    "PATCH /v1/me": "profile:write",
    "POST /v1/me/deactivation": "profile:write",
    "GET /v1/me/limits": None,
    "GET /v1/me/keys": None,
    "POST /v1/me/keys": "profile:write",
    "DELETE /v1/me/keys/{key_id}": "profile:write",
    "POST /v1/auth/tokens": None,
    "GET /v1/auth/tokens": "tokens:write",
    "DELETE /v1/auth/tokens/{token_id}": "tokens:write",
    "POST /v1/auth/tokens/{token_id}/rotation": "tokens:write",
    "POST /v1/auth/revocation": "tokens:write",
    "GET /v1/events": "events:read",
    "GET /v1/events/stream": "events:read",
    "GET /v1/wallet": "wallet:read",
    "GET /v1/wallet/statement": "wallet:read",
    "GET /v1/wallet/deposit-address": "wallet:read",
    "GET /v1/wallet/deposits": "wallet:read",
    "GET /v1/wallet/deposits/{deposit_id}": "wallet:read",
    "POST /v1/wallet/deposit-hints": "wallet:write",
    "GET /v1/wallet/addresses": "wallet:read",
    "POST /v1/wallet/addresses": "withdrawals:write",
    "DELETE /v1/wallet/addresses/{entry_id}": "withdrawals:write",
    "GET /v1/wallet/withdrawals": "wallet:read",
    "POST /v1/wallet/withdrawals": "withdrawals:write",
    "GET /v1/wallet/withdrawals/{withdrawal_id}": "wallet:read",
    "DELETE /v1/wallet/withdrawals/{withdrawal_id}": "withdrawals:write",
    "GET /v1/fees": None,
    "GET /v1/solvency": None,
    "GET /v1/listings": None,
    "POST /v1/listings": "listings:write",
    "GET /v1/listings/{listing_id}": None,
    "PATCH /v1/listings/{listing_id}": "listings:write",
    "GET /v1/webhook-endpoints": "webhooks:write",
    "POST /v1/webhook-endpoints": "webhooks:write",
    "GET /v1/webhook-endpoints/{endpoint_id}": "webhooks:write",
    "PATCH /v1/webhook-endpoints/{endpoint_id}": "webhooks:write",
    "DELETE /v1/webhook-endpoints/{endpoint_id}": "webhooks:write",
    "GET /v1/webhook-endpoints/{endpoint_id}/deliveries": "webhooks:write",
    **{
        f"POST /v1/webhook-endpoints/{{endpoint_id}}/{action}": "webhooks:write"
        for action in ("secret-rotation", "test", "redeliveries")
    },
    "POST /v1/webhook-deliveries/{delivery_id}/redelivery": "webhooks:write",
    "GET /v1/jobs": "jobs:read",
    "POST /v1/jobs": "jobs:write",
    "GET /v1/jobs/{job_id}": "jobs:read",
    "GET /v1/jobs/{job_id}/timeline": "jobs:read",
    **{
        f"POST /v1/jobs/{{job_id}}/{action}": "jobs:write"
        for action in (
            *("offers", "agreement", "decline", "funding", "start", "abort", "approval"),
            *("deliveries", "revisions", "settlement-offers"),
        )
    },
    "DELETE /v1/jobs/{job_id}/settlement-offers": "jobs:write",
    "GET /v1/jobs/{job_id}/deliveries": "jobs:read",
    "GET /v1/jobs/{job_id}/deliveries/{number}": "jobs:read",
    "GET /v1/jobs/{job_id}/deliveries/{number}/file": "jobs:read",
    "POST /v1/jobs/{job_id}/dispute": "disputes:write",
    "GET /v1/disputes": "jobs:read",
    "GET /v1/disputes/{dispute_id}": "jobs:read",
    "GET /v1/disputes/{dispute_id}/evidence/{number}/file": "jobs:read",
    "GET /v1/disputes/{dispute_id}/pack": "jobs:read",
    "GET /v1/precedents": "jobs:read",
    **{
        f"POST /v1/disputes/{{dispute_id}}/{action}": "disputes:write"
        for action in ("answer", "answers", "evidence", "withdrawal", "appeal")
    },
}


class TestScopes:
    def test_are_printed_as_the_contract_names_them(self, operations):
        assert {name: operation.get("x-scope") for name, operation in operations.items()} == SCOPES


# --- answers ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def _connection_stays(db):
    """Keep the connection of the test, which a server would hang up after the request, or for making others wait."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def market(alice, bob, credit, monkeypatch):
    """Fill a small market: jobs of alice's in several states, and what else can be named in an address."""
    for agent in (alice, bob):
        credit(agent, 1_000_000_000)
        AgentKey.objects.create(agent=agent, public_key=Signer().raw)
    trade = Trade(alice, bob, clock.now())
    jobs = [trade.job(state) for state in ("negotiating", "agreed", "funded", "in_progress", "delivered", "completed")]
    mirrored = Trade(bob, alice, clock.now())
    jobs += [mirrored.job(state) for state in ("negotiating", "funded", "delivered")]
    token, secret = tokens.mint(alice)
    monkeypatch.setattr(stream, "THREADED_SECONDS", 0.1)
    monkeypatch.setattr(stream, "close_old_connections", lambda: None)  # it is the test's own
    endpoint = webhooks.create(alice.pk, url="https://receiver.example/hook").endpoint
    named = {
        "endpoint_id": [str(endpoint.id)],
        "delivery_id": [str(webhooks.send_test(endpoint.id, agent=alice).id)],
        "job_id": [str(job.id) for job in jobs],
        "token_id": [str(token.id)],
        "name": ["alice", str(bob.id)],
        "key_id": [str(key.id) for key in AgentKey.objects.filter(agent=alice)],
        "number": [1],
    }
    return secret, named


@pytest.mark.django_db
@pytest.mark.usefixtures("_connection_stays")
class TestAnswers:
    @pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
    def test_keep_to_the_document(self, market, mode):
        """Play made-up requests, right ones and wrong ones, against the application as a server would."""
        failures = []
        played = itertools.count()
        load_all_checks()
        api = schemathesis.openapi.from_wsgi("/v1/openapi.json", application)
        # Every request carries a good token; what becomes of others is tested at the edge.
        del api.raw_schema["components"]["securitySchemes"]
        for result in api.get_all_operations():
            operation = result.ok()
            try:
                _play(operation, mode, market, played)
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "there is nothing to get wrong"
            except Exception as failure:
                failures.append(f"{operation.label}: {failure}")

        assert failures == [], "\n\n".join(failures)
        assert next(played) > 200


def _play(operation, mode, market, played):
    secret, named = market
    # A wrong request keeps its address, which may be what is wrong.
    right = mode is GenerationMode.POSITIVE
    known = {name for name in re.findall(r"{(\w+)}", operation.path) if right and name in named}
    kept = [checks.status_code_conformance, checks.content_type_conformance]
    kept += [checks.response_headers_conformance, checks.response_schema_conformance]
    # (An object in a query becomes parameters of other names, which are nobody's business.)
    rejections = [] if right or not operation.body else [negative_data_rejection]
    kept += rejections

    @seed(2)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def play(case, data):
        for name in known:
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(named[name]))
        with transaction.atomic():
            answer = case.call(headers={"Authorization": f"Bearer {secret}", "Host": "localhost"})
            transaction.set_rollback(True)
        next(played)
        assert answer.status_code != 500, answer.text
        # A preview answers 200 and says in it what would be refused.
        previewed = "preview" in (case.query or {})
        case.validate_response(answer, checks=[each for each in kept if not (previewed and each in rejections)])

    play()
