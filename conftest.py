"""
What every test stands on: the real PostgreSQL, and books that are checked after each test.

A test on one connection (`db`) runs in a transaction that is rolled back; its deferred guards are fired before the
books are read. A race or a crash (`transaction=True`) commits for real, and the tables are emptied afterwards.
"""

import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.contrib.contenttypes.management import create_contenttypes
from django.db import connection, connections
from django.db.models.signals import post_migrate

from accounts.models import Agent

SCOPES = [
    "profile:write", "listings:write", "jobs:read", "jobs:write", "wallet:read", "wallet:write", "withdrawals:write",
    "disputes:write", "events:read", "webhooks:write", "tokens:write",
]  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long suites unless somebody asks for them: `-m long`, as `make test-long` does, or TEST_LONG=1."""
    if config.getoption("markexpr") or os.environ.get("TEST_LONG") == "1":
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: run it by `make test-long`"))


def pytest_configure(config: pytest.Config) -> None:
    """Give each process of tests a cache of its own, since they share one Redis; and hash passwords without effort."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        settings.CACHES["default"]["KEY_PREFIX"] = worker


# --- the database ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session", autouse=True)
def _flush_what_is_there() -> None:
    """
    Empty after a test only the tables that have rows: of eighty, most have none, and truncating costs files.

    This, and nothing else, passes the triggers that protect the ledger and what was said in cases.
    """
    operations = type(connection.ops)

    def execute_sql_flush(self: Any, sql_list: list[str]) -> None:
        # Kinds of rows and permissions are the migrations' own: they stay, instead of being made anew each time.
        post_migrate.disconnect(create_contenttypes)
        post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
        tables = set(re.findall(r'"(\w+)"', " ".join(sql_list))) - {"django_content_type", "auth_permission"}
        with self.connection.cursor() as cursor:
            cursor.execute(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT FROM {name})" for name in tables))
            filled = [name for (name,) in cursor.fetchall()]
            cursor.execute("SET session_replication_role = replica")
            for name in filled:
                cursor.execute(f"DELETE FROM {name}")
            cursor.execute("SET session_replication_role = DEFAULT")

    operations.execute_sql_flush = execute_sql_flush


@pytest.fixture(scope="session", autouse=True)
def _sweep_to_the_end() -> None:
    """Let no sweep leave the rest to the next bell because this machine is busy."""
    from accounts import sweeps

    sweeps.SECONDS = 60.0


@pytest.fixture(autouse=True)
def books_are_right(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check every invariant of the books after each test that touched the database."""
    touched = request.node.get_closest_marker("django_db") or {"db", "transactional_db"} & set(request.fixturenames)
    if not touched:
        yield
        return
    request.getfixturevalue("_django_db_helper")
    if connection.in_atomic_block:  # a busy machine may let the test's own transaction wait for long
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    yield
    from escrow import books

    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    assert books.check(full=True) == []
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


@pytest.fixture(autouse=True)
def no_courier_outlives_a_test() -> Iterator[None]:
    """Whoever rang for webhooks left a thread with a connection of its own."""
    yield
    from accounts.events import courier

    courier.stop()


# --- agents and their money -----------------------------------------------------------------------------------------
@pytest.fixture
def noon() -> datetime:
    return datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def make_agent(db: None) -> Callable[..., Agent]:
    def make(handle: str, **fields: Any) -> Agent:
        fields.setdefault("handle_skeleton", handle)
        return Agent.objects.create(handle=handle, display_name=handle.title(), **fields)

    return make


@pytest.fixture
def alice(make_agent: Callable[..., Agent]) -> Agent:
    return make_agent("alice")


@pytest.fixture
def bob(make_agent: Callable[..., Agent]) -> Agent:
    return make_agent("bob")


@pytest.fixture
def carol(make_agent: Callable[..., Agent]) -> Agent:
    return make_agent("carol")


@pytest.fixture
def credit(noon: datetime) -> Callable[[Agent, int], None]:
    """Give an agent balance the only way there is: custody → available, as a credited deposit does."""
    from accounts import ids
    from escrow import ledger

    def credit(agent: Agent, units: int) -> None:
        moves = [
            ledger.Move("custody", "chain:31337", -units),
            ledger.Move("available", str(agent.id), units),
        ]
        ledger.post(f"test:{ids.uuid7()}:credit", kind="deposit", moves=moves, at=noon)

    return credit


@pytest.fixture
def balance_of() -> Callable[..., int]:
    """Read a balance: `balance_of("available", bob)`, `balance_of("hold", job)`, `balance_of("fees")`."""
    from escrow import ledger

    def balance_of(kind: str, whose: Any = None) -> int:
        if isinstance(whose, Agent):
            return ledger.balance(kind, str(whose.id))
        if whose is None:
            return ledger.balance(kind, "platform")
        return ledger.balance(kind, whose if isinstance(whose, str) else f"job:{whose.id}")

    return balance_of


@pytest.fixture
def client_for() -> Callable[..., Any]:
    """Make an HTTP client that speaks as an agent, with a token of all scopes or of the given ones."""
    from accounts import tokens

    def client_for(agent: Agent, scopes: list[str] | None = None) -> Any:
        from accounts.tests.http import ApiClient

        _, secret = tokens.mint(agent, scopes=scopes if scopes is not None else SCOPES)
        return ApiClient(secret)

    return client_for


# --- staff ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def sign_in() -> Callable[..., Any]:
    """Begin a session in the console, as after password and code: `sign_in(client, user)` answers the client."""
    from accounts.tests.staff import sign_in

    return sign_in


# --- races ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def race(transactional_db: None) -> Callable[..., list[Any]]:
    """
    Run functions at once, each in a thread with a connection of its own, opened before the barrier.

    Answers what each returned, or the exception it raised, in order.
    """

    def race(*functions: Callable[[], Any]) -> list[Any]:
        barrier = threading.Barrier(len(functions))
        outcomes: list[Any] = [None] * len(functions)

        def run(position: int, function: Callable[[], Any]) -> None:
            try:
                connection.ensure_connection()
                barrier.wait(timeout=60)
                outcomes[position] = function()
            except Exception as error:
                outcomes[position] = error
            finally:
                connections.close_all()

        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    return race
