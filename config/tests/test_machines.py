import pytest
from django.core.cache import caches
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

pytestmark = pytest.mark.django_db


class TestHealthz:
    def test_asks_nobody(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            answer = Client().get("/healthz")

        assert answer.status_code == 200
        assert answer.json() == {"status": "ok"}


class TestReadyz:
    def test_is_ready_with_database_and_redis(self):
        answer = Client().get("/readyz")

        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "database": "ok", "redis": "ok"}

    def test_goes_on_degraded_without_redis(self, monkeypatch):
        nowhere = type(caches["default"])("redis://127.0.0.1:1/0", {})
        monkeypatch.setattr("config.machines.cache", nowhere)

        answer = Client().get("/readyz")

        assert answer.status_code == 200
        assert answer.json() == {"status": "ok", "database": "ok", "redis": "degraded"}

    def test_is_not_ready_before_it_is_migrated(self):
        (newest,) = MigrationLoader(connection).graph.leaf_nodes("escrow")
        MigrationRecorder(connection).record_unapplied(*newest)

        answer = Client().get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["database"] == "migrations are missing"

    def test_is_not_ready_without_a_database(self, monkeypatch):
        def gone(connection):
            raise OperationalError("no route to host")

        monkeypatch.setattr("config.machines.MigrationExecutor", gone)

        answer = Client().get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["database"] == "unavailable"

    def test_is_not_sent_elsewhere_by_the_redirect_to_https(self, settings):
        settings.SECURE_SSL_REDIRECT = True

        assert Client().get("/healthz").status_code == 200
        assert Client().get("/readyz").status_code == 200
        assert Client().get("/v1/fees").status_code == 301
