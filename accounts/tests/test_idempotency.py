from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import clock, idempotency
from accounts.errors import Invalid
from accounts.idempotency import Answer, KeyReused
from accounts.models import IdempotencyRecord

pytestmark = pytest.mark.django_db

MARK = b"m" * 32


def remember(key="k", *, scope="agent:a", keep=False, answer=None):
    idempotency.remember(scope, key, fingerprint=MARK, answer=answer or Answer(201, {"id": 1}), keep=keep)


class TestWellFormed:
    @pytest.mark.parametrize("key", ["!", "~", "a" * 255])
    def test_answers_the_key(self, key):
        assert idempotency.well_formed(key) == key

    @pytest.mark.parametrize("key", ["", "a" * 256, " ", "a b", "\x1f", "\x7f", "é", "\n"])
    def test_refuses_another(self, key):
        with pytest.raises(Invalid):
            idempotency.well_formed(key)


class TestFingerprint:
    def test_ignores_the_order_of_keys(self):
        one = idempotency.fingerprint_of("POST", "/v1/a", {"a": 1, "b": {"c": 2, "d": 3}})
        other = idempotency.fingerprint_of("POST", "/v1/a", {"b": {"d": 3, "c": 2}, "a": 1})

        assert one == other
        assert len(one) == 32

    @pytest.mark.parametrize(
        "asked",
        [
            ("DELETE", "/v1/a", {"a": 1}), ("POST", "/v1/b", {"a": 1}), ("POST", "/v1/a", {"a": 2}),
            ("POST", "/v1/a", {"a": "1"}),
            ("POST", "/v1/a", {"a": 1.0}), ("POST", "/v1/a", {"a": True}),
            ("POST", "/v1/a", [{"a": 1}]), ("POST", "/v1/a", None),
        ],
    )  # fmt: skip
    def test_tells_requests_apart(self, asked):
        assert idempotency.fingerprint_of(*asked) != idempotency.fingerprint_of("POST", "/v1/a", {"a": 1})


class TestEarlierAnswer:
    @pytest.mark.parametrize(
        "body", [{"id": 1, "deep": [1, {"a": None}]}, None, [], "text", {"half": "\N{GRINNING FACE}"}]
    )
    def test_is_what_was_remembered(self, body):
        remember(answer=Answer(200, body))

        assert idempotency.earlier_answer("agent:a", "k", fingerprint=MARK) == (200, body)

    @pytest.mark.parametrize(("scope", "key"), [("agent:b", "k"), ("agent:a", "l")])
    def test_is_nobody_elses(self, scope, key):
        remember()

        assert idempotency.earlier_answer(scope, key, fingerprint=MARK) is None

    def test_refuses_another_request(self):
        remember()

        with pytest.raises(KeyReused):
            idempotency.earlier_answer("agent:a", "k", fingerprint=b"o" * 32)

    def test_cannot_be_written_twice(self):
        remember()

        with pytest.raises(IntegrityError), transaction.atomic():
            remember()


class TestForgetExpired:
    def test_deletes_ordinary_keys_after_a_day_and_those_of_money_never(self):
        for key, keep, hours in (("old", False, 25), ("new", False, 23), ("money", True, 24 * 365)):
            remember(key, keep=keep)
            IdempotencyRecord.objects.filter(key=key).update(created_at=clock.now() - timedelta(hours=hours))

        assert idempotency.forget_expired() == 1
        assert set(IdempotencyRecord.objects.values_list("key", flat=True)) == {"new", "money"}

    def test_goes_through_its_index(self):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(
                "EXPLAIN DELETE FROM accounts_idempotencyrecord WHERE NOT keep AND created_at < clock_timestamp()"
            )
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "idempotency_expiring" in plan
