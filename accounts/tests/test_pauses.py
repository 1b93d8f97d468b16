import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, ProgrammingError, transaction

from accounts import pauses, staff
from accounts.errors import Invalid, NotAllowed, Paused
from accounts.models import Pause, PauseChange, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def treasurer(db):
    staff.prepare_groups()
    return staff.prepare_account("tess", groups=["Treasurers"])


class TestPause:
    def test_stops_new_business_and_says_why(self, treasurer):
        pauses.pause("withdrawals", by=treasurer, reason="the node lies")

        with pytest.raises(Paused, match="the node lies"):
            pauses.require_open("withdrawals")
        pauses.require_open("deposits")

    def test_is_kept_as_a_row_for_ever(self, treasurer):
        pauses.pause("withdrawals", by=treasurer, reason="the node lies")
        pauses.resume("withdrawals", by=treasurer, reason="another node")

        changes = list(PauseChange.objects.order_by("revision").values_list("paused", "by", "reason"))
        assert changes == [(True, treasurer.pk, "the node lies"), (False, treasurer.pk, "another node")]
        with pytest.raises(ProgrammingError, match="Cannot update"), transaction.atomic():
            PauseChange.objects.update(reason="nothing")

    def test_by_itself_names_its_cause_and_tells_strangers_nothing(self):
        pauses.pause("withdrawals", cause="unexplained_outflow", reason="9 USDC left in 0xabc")

        assert Pause.objects.get().cause == "unexplained_outflow"
        with pytest.raises(Paused) as refusal:
            pauses.require_open("withdrawals")
        assert "0xabc" not in str(refusal.value.detail)

    def test_by_an_operator_needs_no_page(self, capsys):
        for _ in range(2):
            call_command("pause", "withdrawals", "new_jobs", "--reason", "restored from a backup")

        assert pauses.is_paused("withdrawals")
        assert pauses.is_paused("new_jobs")
        assert not pauses.is_paused("deposits")
        assert PauseChange.objects.count() == 2
        assert capsys.readouterr().out.splitlines()[2:] == [
            "withdrawals was paused already",
            "new_jobs was paused already",
        ]

    def test_by_an_operator_needs_a_reason(self):
        with pytest.raises(CommandError):
            call_command("pause", "withdrawals", "--reason", " ")

        assert not pauses.is_paused("withdrawals")

    def test_of_many_at_once_is_one(self, race):
        outcomes = race(*[lambda: pauses.pause("deposits", cause="x", reason="y")] * 8)

        assert sum(isinstance(outcome, Pause) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, pauses.AlreadySet) for outcome in outcomes) == 7
        assert PauseChange.objects.count() == 1

    def test_needs_a_reason_and_a_switch(self, treasurer):
        with pytest.raises(Invalid):
            pauses.pause("withdrawals", by=treasurer, reason=" ")
        with pytest.raises(Invalid):
            pauses.pause("everything", by=treasurer, reason="why not")

    def test_is_refused_to_others(self):
        with pytest.raises(NotAllowed):
            pauses.pause("withdrawals", by=User.objects.create(username="eve"), reason="because")


class TestResume:
    def test_is_for_people_and_the_database_knows(self, treasurer):
        pauses.pause("withdrawals", cause="unreadable", reason="three times")

        with pytest.raises(NotAllowed):
            pauses.resume("withdrawals", by=User.objects.create(username="eve"), reason="because")
        with pytest.raises(IntegrityError), transaction.atomic():
            Pause.objects.update(paused=False)
        pauses.resume("withdrawals", by=treasurer, reason="it answers again")
        assert not pauses.is_paused("withdrawals")

    def test_of_what_is_open_is_refused(self, treasurer):
        with pytest.raises(pauses.AlreadySet):
            pauses.resume("withdrawals", by=treasurer, reason="again")
