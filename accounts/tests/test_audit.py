import pytest
from django.db import DatabaseError, connection, transaction
from django.test import RequestFactory

from accounts import audit
from accounts.edge import origins
from accounts.models import AuditLink, AuditRecord, AuditSeal, User

UNITS = 1_000_000


@pytest.fixture
def person(db):
    return User.objects.create_user("ada", is_staff=True)


class TestRecord:
    @pytest.mark.django_db
    def test_says_who_did_what_to_what_and_why(self, person, alice, noon):
        audit.record(
            "agent.suspended", user=person, agent=alice, subject=f"agent:{alice.pk}", before={"status": "active"},
            after={"status": "suspended"}, facts={"open_jobs": 3}, reason="spam", at=noon,
        )  # fmt: skip

        found = AuditRecord.objects.get()
        assert (found.action, found.user, found.agent, found.reason) == ("agent.suspended", person, alice, "spam")
        assert found.subject == f"agent:{alice.pk}"
        assert found.facts == {"open_jobs": 3}
        assert found.occurred_at == noon
        assert len(found.before) == len(found.after) == 32
        assert bytes(found.before) != bytes(found.after)

    @pytest.mark.django_db
    def test_goes_with_what_it_tells_of(self, person):
        with transaction.atomic():
            audit.record("pause.set", user=person)
            transaction.set_rollback(True)

        assert not AuditRecord.objects.exists()

    @pytest.mark.django_db
    def test_of_reading_names_the_reader(self, person, alice):
        audit.read(person, f"agent:{alice.pk}", "personal_data")

        found = AuditRecord.objects.get()
        assert (found.action, found.user, found.subject) == ("read.personal_data", person, f"agent:{alice.pk}")


class TestOrigin:
    def test_is_the_address_and_the_id_of_the_request_that_is_answered(self):
        seen = []
        answer = origins.Origin(lambda request: seen.append(audit.origin.get()))

        answer(RequestFactory().get("/", REMOTE_ADDR="203.0.113.9", HTTP_X_REQUEST_ID="r-1"))

        assert seen == [("203.0.113.9", "r-1")]
        assert audit.origin.get() == ("", "")

    def test_is_forgotten_after_a_request_that_failed(self):
        def fails(request):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            origins.Origin(fails)(RequestFactory().get("/"))

        assert audit.origin.get() == ("", "")

    def test_fits_the_column_whatever_a_proxy_says(self, settings):
        settings.TRUSTED_PROXIES = 1
        seen = []

        origins.Origin(lambda request: seen.append(audit.origin.get()))(
            RequestFactory().get("/", HTTP_X_FORWARDED_FOR="9" * 500, HTTP_X_REQUEST_ID="r-1")
        )

        assert seen == [("9" * 64, "r-1")]


@pytest.mark.django_db(transaction=True)
class TestRows:
    @pytest.mark.parametrize("table", ["accounts_auditrecord", "accounts_auditlink", "accounts_auditseal"])
    @pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
    def test_are_written_once(self, table, statement):
        with connection.cursor() as cursor:
            cursor.execute(_ONE_OF_EACH)
        change = "reason = 'x'" if table == "accounts_auditrecord" else "position = 7"

        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute(statement.format(table, change))

        assert AuditRecord.objects.count() == AuditLink.objects.count() == AuditSeal.objects.count() == 1


_ONE_OF_EACH = """
    INSERT INTO accounts_auditrecord (action, subject, facts, reason, address, request_id)
        VALUES ('x', '', '{}', '', '', '');
    INSERT INTO accounts_auditlink VALUES (1, 1, ''::bytea, ''::bytea, now());
    INSERT INTO accounts_auditseal VALUES (1, ''::bytea, now());
"""
