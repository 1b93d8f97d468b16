"""What agents and staff do in accounts is written down, each time, with nothing that is secret or personal."""

import json

import pytest
from django.core.management import call_command
from django.test import Client

from accounts import pauses, staff, suspensions
from accounts.models import AgentKey, AuditRecord, User
from accounts.tests.signers import Signer
from accounts.tests.staff import fields_of

pytestmark = pytest.mark.django_db
PASSWORD = "a long password of mona's"


def latest(action):
    """The newest record of an action."""
    return AuditRecord.objects.filter(action=action).latest("id")


def everything_said():
    rows = AuditRecord.objects.values_list("action", "subject", "facts", "reason")
    return json.dumps(list(rows), default=str)


@pytest.fixture
def signer(alice):
    signer = Signer()
    AgentKey.objects.create(agent=alice, public_key=signer.raw)
    return signer


@pytest.fixture
def api(alice, client_for):
    return client_for(alice)


class TestAgents:
    def test_signing_in_leaves_a_record_without_the_secret(self, alice, signer):
        answer = signer.sign_in(label="for anna@example.org").json()

        found = latest("token.created")
        assert (found.agent, found.user, found.subject) == (alice, None, f"token:{answer['id']}")
        assert found.facts["prefix"] == answer["prefix"]
        assert (found.before, len(found.after)) == (None, 32)
        assert found.address
        assert found.request_id
        assert answer["secret"] not in everything_said()
        assert "anna@" not in everything_said()

    def test_rotating_leaves_a_record(self, alice, signer, client_for):
        old = signer.sign_in().json()
        from accounts.tests.http import ApiClient

        new = ApiClient(old["secret"]).post(f"/auth/tokens/{old['id']}/rotation", {}).json()

        found = latest("token.rotated")
        assert (found.agent, found.subject) == (alice, f"token:{new['id']}")
        assert found.facts["rotated_from"] == old["id"]
        assert latest("token.revoked").subject == f"token:{old['id']}"

    def test_revoking_leaves_a_record(self, alice, api, signer):
        token = signer.sign_in().json()

        api.delete(f"/auth/tokens/{token['id']}")
        api.delete(f"/auth/tokens/{token['id']}")

        found = AuditRecord.objects.get(action="token.revoked")
        assert (found.agent, found.subject) == (alice, f"token:{token['id']}")
        assert bytes(found.before) != bytes(found.after)

    def test_revoking_all_leaves_a_record_and_one_for_each(self, alice, api, signer):
        signer.sign_in()

        api.post("/auth/revocation", {})

        assert latest("token.all_revoked").facts == {"revoked": 2}
        assert AuditRecord.objects.filter(action="token.revoked", agent=alice).count() == 2

    def test_a_key_that_is_added_or_removed_leaves_a_record(self, alice, api, signer):
        new = Signer()
        challenge = new.ask("add_key")
        added = api.post(
            "/me/keys",
            {
                "public_key": new.public_key,
                "challenge_id": challenge["challenge_id"],
                "signature_by_existing_key": signer.sign_text(challenge["message"]),
                "signature_by_new_key": new.sign_text(challenge["message"]),
            },
        ).json()
        api.delete(f"/me/keys/{added['id']}", signer.answered("confirm"))

        for action in ("key.added", "key.removed"):
            found = latest(action)
            assert (found.agent, found.subject) == (alice, f"key:{added['id']}")
            assert found.facts == {"public_key": new.public_key}
        assert bytes(latest("key.removed").before) == bytes(latest("key.added").after)

    def test_leaving_leaves_a_record(self, alice, api, signer):
        api.post("/me/deactivation", signer.answered("confirm"))

        assert (latest("agent.leaving").agent, latest("agent.leaving").subject) == (alice, f"agent:{alice.pk}")

    def test_what_is_refused_leaves_none(self, alice, api, signer):
        before = AuditRecord.objects.count()

        assert api.post("/me/deactivation", Signer().answered("confirm")).status_code >= 400

        assert AuditRecord.objects.count() == before


class TestStaff:
    @pytest.fixture
    def mona(self, db):
        staff.prepare_groups()
        return staff.prepare_account("mona", groups=["Moderators"], password=PASSWORD)

    def test_signing_in_and_out_leaves_records(self, mona):
        client = Client()

        client.post("/admin/login/", fields_of(mona, PASSWORD) | {"next": "/admin/"}, REMOTE_ADDR="203.0.113.9")
        client.post("/admin/logout/")

        found = latest("staff.signed_in")
        assert (found.user, found.subject, found.address) == (mona, f"user:{mona.pk}", "203.0.113.9")
        assert latest("staff.signed_out").user == mona

    def test_failing_to_sign_in_names_whom_it_was_tried_for_and_keeps_nothing_that_was_typed(self, mona):
        for name in ("mona", "my secret password"):
            Client().post("/admin/login/", fields_of(mona, PASSWORD) | {"username": name, "password": "wrong one"})

        known, unknown = AuditRecord.objects.filter(action="staff.sign_in_failed").order_by("id")
        assert (known.user, known.subject) == (None, f"user:{mona.pk}")
        assert (unknown.user, unknown.subject) == (None, "user:unknown")
        assert "secret password" not in everything_said()
        assert "wrong one" not in everything_said()

    def test_a_wrong_code_is_a_failure_too(self, mona):
        Client().post("/admin/login/", fields_of(mona, PASSWORD) | {"otp_token": "000000"})

        assert latest("staff.sign_in_failed").subject == f"user:{mona.pk}"
        assert not AuditRecord.objects.filter(action="staff.signed_in").exists()

    def test_pausing_and_resuming_leaves_records(self, db):
        tess = staff.prepare_account("tess", groups=[], superuser=True)

        pauses.pause("deposits", by=tess, reason="Something is odd.")
        pauses.resume("deposits", by=tess, reason="It was nothing.")

        set_, lifted = latest("pause.set"), latest("pause.lifted")
        assert (set_.user, set_.subject, set_.reason) == (tess, "pause:deposits", "Something is odd.")
        assert (lifted.user, lifted.reason) == (tess, "It was nothing.")
        assert bytes(set_.after) == bytes(lifted.before)

    def test_what_pauses_by_itself_is_no_doing_of_a_person(self, db):
        pauses.pause("deposits", cause="alarm", reason="Ledger and chain differ.")

        assert not AuditRecord.objects.filter(action="pause.set").exists()

    @pytest.mark.parametrize(("verb", "action"), [("suspend", "suspend"), ("reinstate", "reinstate")])
    def test_suspending_and_reinstating_leaves_records(self, mona, alice, verb, action):
        boss = staff.prepare_account("boss", groups=[], superuser=True)
        suspensions.suspend(alice.pk, by=boss, reason="It sends spam to everybody.")
        if verb == "reinstate":
            suspensions.reinstate(alice.pk, by=boss, reason="It promised to be good.")

        assert AuditRecord.objects.filter(user=boss, subject=f"agent:{alice.pk}", action__contains=action).count() == 1


class TestCommands:
    def test_pause_leaves_a_record_of_nobody(self, db):
        call_command("pause", "deposits", reason="A restore.", verbosity=0)

        found = latest("command.pause")
        assert (found.user, found.agent, found.subject) == (None, None, "pause:deposits")
        assert (found.facts, found.reason) == ({"command": "pause"}, "A restore.")

    def test_setting_schedules_up_leaves_a_record_when_it_changes_something(self, db):
        call_command("setup_schedules", verbosity=0)
        call_command("setup_schedules", verbosity=0)

        found = AuditRecord.objects.get(action="command.setup_schedules")
        assert found.facts["command"] == "setup_schedules"
        assert found.facts["made"] > 0


def test_every_record_is_of_a_known_person_by_number_alone(alice, db):
    """Names and addresses of people are in no record: it is kept for ever, and they may ask to be forgotten."""
    staff.prepare_groups()
    staff.prepare_account("mona", groups=["Moderators"], password=PASSWORD, email="mona@example.org")

    assert "mona" not in everything_said()
    assert User.objects.get(username="mona").pk is not None
