"""What moderators and time decide, and what that does to the money."""

from datetime import timedelta

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from accounts import ids
from accounts.errors import Invalid, NotAllowed
from accounts.models import Event, User
from disputes import arbitration, assignment, cases, conflicts, deadlines, decisions, evidence, lifecycle
from disputes.decisions import Decision
from disputes.models import Dispute, Evidence, Ruling
from disputes.tests.conftest import DAY, HOUR, STATEMENT, appealed, ruled
from escrow import holds, ledger
from escrow.models import Transfer
from marketplace import deliveries, jobs
from marketplace import lifecycle as job_lifecycle
from marketplace.models import Job

pytestmark = pytest.mark.django_db


class TestRule:
    def test_moves_no_money_until_it_is_final(self, case_at, alice, bob, moderator, balance_of, noon):
        case = case_at("under_review")
        before = [balance_of("available", agent) for agent in (alice, bob)]

        case = ruled(case, moderator, at=noon + 3 * DAY)
        assert [balance_of("available", agent) for agent in (alice, bob)] == before
        assert case.assigned_to == moderator
        arbitration.finalise(case.id, at=noon + 5 * DAY)

        # 30 % of 50 USDC less 1 % to the seller, 70 % to the client
        assert balance_of("available", bob) == before[1] + 14_850_000
        assert balance_of("available", alice) == before[0] + 35_000_000
        assert balance_of("fees") == 150_000
        assert Job.objects.get(pk=case.job_id).state == "resolved"

    def test_gives_bond_and_deposit_in_the_same_transfer(self, case_at, job_at, moderator, balance_of, bob, noon):
        case_at()
        case = case_at("under_review", job=job_at(seller_bond=5_000_000))
        ruled(
            case, moderator, at=noon + 3 * DAY,
            decision=Decision(seller_bps=10_000, bond_to="seller", deposit="other_side"),
        )  # fmt: skip
        before = balance_of("available", bob)

        arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert balance_of("available", bob) == before + 49_500_000 + 5_000_000 + 1_000_000
        assert balance_of("dispute_deposit", case.deposit_key) == 0
        assert Transfer.objects.filter(reference=f"job:{case.job_id}:close").count() == 1
        assert Dispute.objects.get(pk=case.pk).deposit_went == "other_side"

    @pytest.mark.parametrize(
        ("given", "pointer"),
        [
            ({"decision": Decision(seller_bps=10_001, bond_to="seller")}, "/seller_bps"),
            ({"decision": Decision(seller_bps=-1, bond_to="seller")}, "/seller_bps"),
            ({"decision": Decision(seller_bps=0, bond_to="us")}, "/bond"),
            ({"decision": Decision(seller_bps=0, bond_to="seller", deposit="lost")}, "/deposit"),
            ({"reason_codes": []}, "/reason_codes"),
            ({"reason_codes": ["mood"]}, "/reason_codes"),
            ({"reasons": "I say so."}, "/reasons"),
            ({"reasons": " " * 400}, "/reasons"),
        ],
    )
    def test_refuses_what_it_must_not_say(self, case_at, moderator, noon, given, pointer):
        case = case_at("under_review")

        with pytest.raises(Invalid) as refusal:
            ruled(case, moderator, at=noon + 3 * DAY, **given)

        assert refusal.value.errors[0].pointer == pointer
        assert not Ruling.objects.exists()

    def test_needs_the_permission(self, case_at, noon):
        case = case_at("under_review")

        for user in (
            User.objects.create_user("nora", is_staff=True),
            User.objects.create_superuser("root", is_active=False),
        ):
            with pytest.raises(NotAllowed):
                ruled(case, user, at=noon + 3 * DAY)

    def test_needs_the_revision_that_was_read(self, case_at, moderator, noon):
        case = case_at("under_review")

        with pytest.raises(arbitration.CaseChanged):
            ruled(case, moderator, at=noon + 3 * DAY, revision=case.revision - 1)

    def test_is_the_colleagues_who_took_the_case(self, case_at, moderator, make_moderator, noon):
        case = assignment.take(case_at("under_review").id, moderator=moderator, at=noon + 3 * DAY)

        with pytest.raises(assignment.AssignedToAnother):
            ruled(case, make_moderator("max"), at=noon + 3 * DAY)
        with pytest.raises(assignment.AssignedToAnother):
            assignment.take(case.id, moderator=make_moderator("mia"), at=noon + 3 * DAY)

        assert ruled(case, moderator, at=noon + 3 * DAY).state == "ruled"


class TestConflictOfInterest:
    def refused(self, case, user, at):
        for act in (lambda: ruled(case, user, at=at), lambda: assignment.take(case.id, moderator=user, at=at)):
            with pytest.raises(conflicts.ConflictOfInterest):
                act()
        return True

    @pytest.mark.parametrize("side", ["alice", "bob"])
    def test_of_an_owner(self, case_at, moderator, noon, request, side):
        agent = request.getfixturevalue(side)
        case = case_at("under_review")
        type(agent).objects.filter(pk=agent.pk).update(owner=moderator)

        assert self.refused(case, moderator, noon + 3 * DAY)

    def test_of_one_whose_agent_traded_with_a_party(self, case_at, job_at, moderator, make_agent, noon):
        case = case_at("under_review")
        theirs = make_agent("monas-agent", owner=moderator)
        Job.objects.filter(pk=job_at("completed").pk).update(client=theirs)

        assert self.refused(case, moderator, noon + 3 * DAY)

    def test_of_nobody_else(self, case_at, moderator, make_agent, noon):
        make_agent("monas-agent", owner=moderator)

        assert ruled(case_at("under_review"), moderator, at=noon + 3 * DAY).state == "ruled"


class TestDefaultRuling:
    def ended(self, case, noon):
        deadlines.enforce(case.pk, at=case.hard_stop_at)
        return Ruling.objects.get(dispute=case)

    def opened(self, job, opener, noon):
        return cases.open(
            job.id, opener=opener, reason="other", statement=STATEMENT, requested_seller_bps=0, at=noon + HOUR
        )

    def test_is_as_an_abort_where_the_client_came_before_the_time_and_nothing_had(
        self, job_at, alice, bob, balance_of, noon
    ):
        job = job_at("in_progress", price=7_777_777, client_abort_fee=333_333, seller_bond=1_000_000)
        before = {agent.pk: balance_of("available", agent) for agent in (alice, bob)}

        ruling = self.ended(self.opened(job, alice, noon), noon)

        assert ruling.is_default
        assert "as if the client had aborted" in ruling.reasons
        assert ruling.seller_units == 333_333
        assert balance_of("available", bob) - before[bob.pk] == 333_333 - 3_333 + 1_000_000
        assert balance_of("available", alice) - before[alice.pk] == 7_777_777 - 333_333
        assert balance_of("fees") == 3_333

    def test_is_nothing_for_a_seller_who_never_delivered(self, job_at, bob, alice, balance_of, noon):
        job = job_at("in_progress", seller_bond=1_000_000)
        before = {agent.pk: balance_of("available", agent) for agent in (alice, bob)}

        ruling = self.ended(self.opened(job, bob, noon), noon)

        assert (ruling.seller_bps, ruling.reason_codes) == (0, ["not_delivered"])
        assert balance_of("available", alice) - before[alice.pk] == 50_000_000
        assert balance_of("available", bob) - before[bob.pk] == 1_000_000

    def test_is_halves_while_the_time_of_delivery_still_runs(self, job_at, bob, noon):
        job = job_at("in_progress", delivery_seconds=90 * 86_400)

        assert self.ended(self.opened(job, bob, noon), noon).seller_bps == 5_000

    @pytest.mark.parametrize(("state", "side"), [("delivered", "alice"), ("revising", "alice"), ("revising", "bob")])
    def test_is_halves_where_something_was_delivered(self, job_at, noon, request, state, side):
        ruling = self.ended(self.opened(job_at(state), request.getfixturevalue(side), noon), noon)

        assert (ruling.seller_bps, ruling.bond_to, ruling.deposit) == (5_000, "seller", "back")

    def test_is_all_for_the_seller_whose_checks_passed(self, case_at, noon):
        case = case_at()
        Dispute.objects.filter(pk=case.pk).update(checks_passed_at_opening=True)

        assert self.ended(case, noon).seller_bps == 10_000

    def test_is_no_loss_for_anybody(self, case_at, noon):
        case = case_at("under_review")
        deadlines.enforce(case.pk, at=noon + 30 * DAY)

        assert Dispute.objects.get(pk=case.pk).lost_by is None

    def test_gives_way_to_a_ruling_that_stands(self, case_at, settings, moderator, noon):
        settings.APPEAL_SECONDS = 90 * 86_400
        case = case_at("ruled")
        assert case.deadline_at == noon + 30 * DAY

        ruling = self.ended(case, noon)

        assert (ruling.is_default, ruling.seller_bps) == (False, 3_000)


class TestLostBy:
    @pytest.mark.parametrize(
        ("client_asked", "seller_asked", "ruled_bps", "lost"),
        [
            (0, 10_000, 3_000, "seller"),
            (0, 10_000, 7_000, "client"),
            (0, 10_000, 5_000, None),
            (4_000, 6_000, 10_000, "client"),
            (4_000, 6_000, 0, "seller"),
            (0, None, 6_000, "client"),
            (None, 10_000, 4_999, "seller"),
            (5_000, 5_000, 0, None),
        ],
    )
    def test_is_the_side_whose_request_is_further_away(self, client_asked, seller_asked, ruled_bps, lost):
        case = Dispute(requested_by_client_bps=client_asked, requested_by_seller_bps=seller_asked)

        assert decisions.lost_by(case, seller_bps=ruled_bps) == lost


class TestWhatWasSaidStays:
    """Guards of the database itself."""

    def refuses(self, statement: str, *values) -> bool:
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, values)
        return True

    def test_evidence_is_neither_changed_nor_deleted(self, case_at, alice, noon):
        case = case_at()
        evidence.submit(case.id, by=alice, item=evidence.from_text("As it was."), at=noon + HOUR)

        assert self.refuses("UPDATE disputes_evidence SET content = 'As it were.'::bytea")
        assert self.refuses("UPDATE disputes_evidence SET content = NULL, by = 'seller'")
        assert self.refuses("DELETE FROM disputes_evidence")
        assert self.refuses("TRUNCATE disputes_evidence CASCADE")
        Evidence.objects.update(content=None)  # what retention does: the hashes stay
        assert self.refuses("UPDATE disputes_evidence SET content = 'As it were.'::bytea")

    def test_a_ruling_is_neither_changed_nor_deleted(self, case_at):
        case_at("ruled")

        assert self.refuses("UPDATE disputes_ruling SET seller_bps = 9999")
        assert self.refuses("UPDATE disputes_ruling SET reasons = reasons || '.'")
        assert self.refuses("DELETE FROM disputes_ruling")

    def test_the_time_line_is_append_only(self, case_at):
        case_at()

        assert self.refuses("UPDATE disputes_disputetransition SET by = 'moderator'")
        assert self.refuses("DELETE FROM disputes_disputetransition")

    def test_a_case_keeps_its_matter_and_stays_closed(self, case_at, job_at):
        case_at("evidence")

        assert self.refuses("UPDATE disputes_dispute SET statement_of_client = statement_of_client || '!'")
        assert self.refuses("UPDATE disputes_dispute SET requested_by_seller_bps = 1")
        assert self.refuses("UPDATE disputes_dispute SET deposit_held_units = 1, deposit_due_units = 1")
        assert self.refuses("DELETE FROM disputes_dispute")
        closed = case_at("withdrawn", job=job_at())
        assert self.refuses("UPDATE disputes_dispute SET state = 'final' WHERE id = %s", closed.pk)

    def test_a_job_has_one_live_case(self, case_at):
        case = case_at()
        case.pk = None
        case.id = ids.uuid7()

        with pytest.raises(IntegrityError, match="dispute_one_live_a_job"), transaction.atomic():
            case.save(force_insert=True)

    def test_the_chain_shows_a_changed_item(self, case_at, alice, bob, noon):
        case = case_at()
        for agent in (alice, bob, alice):
            evidence.submit(case.id, by=agent, item=evidence.from_text("Said."), at=noon + HOUR)
        assert evidence.broken_links(case.evidence.order_by("number")) == []

        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute("UPDATE disputes_evidence SET by = 'client' WHERE number = 2")
            cursor.execute("SET LOCAL session_replication_role = DEFAULT")

        assert evidence.broken_links(case.evidence.order_by("number")) == [2]


class TestAJobAfterwards:
    def test_a_withdrawn_case_lets_it_be_delivered_approved_and_paid(
        self, case_at, job_at, alice, bob, noon, balance_of
    ):
        job = job_at("in_progress")
        case = case_at("awaiting_answer", job=job)
        with pytest.raises(lifecycle.DomainError):
            deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({}), at=noon + HOUR)

        cases.withdraw(case.id, by=alice, at=noon + HOUR)
        deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({}), at=noon + HOUR)
        jobs.approve(job.id, client=alice, at=noon + HOUR)

        assert balance_of("hold", job) == 0

    def test_whose_clock_ran_out_meanwhile_fails_at_once(self, case_at, job_at, alice, noon):
        from marketplace import deadlines as job_deadlines

        job = job_at("in_progress")
        case = case_at("awaiting_answer", job=job)

        cases.withdraw(case.id, by=alice, at=noon + 2 * DAY)

        assert job_deadlines.enforce(job.id, at=noon + 2 * DAY).state == "failed"


class TestRedo:
    REDO = Decision(seller_bps=0, bond_to="seller", redo=True, deposit="other_side")

    @pytest.fixture
    def redone(self, case_at, job_at, moderator, noon):
        """A second case of alice's, about a job with a bond; the work is to be done again, five days after noon."""
        case_at("withdrawn")
        case = case_at("under_review", job=job_at(seller_bond=5_000_000))
        case = ruled(case, moderator, at=noon + 3 * DAY, decision=self.REDO)
        return arbitration.finalise(case.id, at=noon + 5 * DAY)

    def test_lets_the_work_be_delivered_again_and_paid(self, redone, alice, bob, balance_of, noon):
        job = Job.objects.get(pk=redone.job_id)
        assert (redone.state, redone.lost_by) == ("final", None)
        assert (job.state, job.redos_left, job.max_deliveries) == ("revising", 0, 11)
        assert job.deadline_at == job.revise_by == noon + 5 * DAY + timedelta(seconds=job.revision_seconds)
        assert "If nothing is delivered by then, the job fails" in job.deadline_effect
        assert (balance_of("hold", job), balance_of("bond", job)) == (50_000_000, 5_000_000)
        before = balance_of("available", bob)

        deliveries.deliver(job.id, seller=bob, content=deliveries.from_json({"all": 12}), at=noon + 5 * DAY)
        jobs.approve(job.id, client=alice, at=noon + 5 * DAY)

        assert balance_of("available", bob) == before + 49_500_000 + 5_000_000

    def test_moves_the_deposit_and_nothing_else(self, redone):
        [transfer] = Transfer.objects.filter(reference__startswith=f"job:{redone.job_id}:").exclude(kind="job.fund")

        assert (transfer.kind, transfer.reference) == ("job.redo", f"job:{redone.job_id}:redo")
        assert sorted(transfer.entries.values_list("amount", flat=True)) == [-1_000_000, 1_000_000]

    def test_grants_each_side_one_more_dispute_and_no_second_redo(self, redone, alice, moderator, noon):
        job = Job.objects.get(pk=redone.job_id)
        assert (job.client_disputes_left, job.seller_disputes_left) == (1, 2)
        at = noon + 5 * DAY
        case = cases.open(job.id, opener=alice, reason="late", statement=STATEMENT, requested_seller_bps=0, at=at)
        case = deadlines.enforce(case.pk, at=at + 3 * DAY)

        with pytest.raises(Invalid) as refusal:
            ruled(case, moderator, at=at + 3 * DAY, decision=self.REDO)
        assert refusal.value.errors[0].pointer == "/redo"

        case = ruled(case, moderator, at=at + 3 * DAY)
        arbitration.finalise(case.id, at=at + 6 * DAY)
        assert Job.objects.get(pk=job.pk).state == "resolved"

    def test_may_be_settled_and_aborted_like_any_work(self, redone, alice, bob, noon):
        cases.settle_offer(redone.job_id, by=alice, seller_bps=5_000, at=noon + 5 * DAY)

        assert cases.settle_offer(redone.job_id, by=bob, seller_bps=5_000, at=noon + 5 * DAY).state == "resolved"

    def test_fails_if_nothing_comes(self, redone, noon):
        from marketplace import deadlines as job_deadlines

        job = Job.objects.get(pk=redone.job_id)

        assert job_deadlines.enforce(job.id, at=job.revise_by).state == "failed"

    def test_without_deposits_posts_nothing(self, case_at, moderator, noon):
        case = case_at("under_review")
        transfers = Transfer.objects.count()
        ruled(case, moderator, at=noon + 3 * DAY, decision=self.REDO)

        assert arbitration.finalise(case.id, at=noon + 5 * DAY).state == "final"
        assert Transfer.objects.count() == transfers

    def test_of_what_never_came_gives_the_seller_its_time_before_silence_decides(self, job_at, alice, moderator, noon):
        job = job_at("in_progress", client_abort_fee=5_000_000)
        told = {"opener": alice, "reason": "other", "statement": STATEMENT, "requested_seller_bps": 0}
        case = cases.open(job.id, at=noon + HOUR, **told)
        case = ruled(deadlines.enforce(case.id, at=case.deadline_at), moderator, at=noon + 4 * DAY, decision=self.REDO)
        arbitration.finalise(case.id, at=noon + 6 * DAY)

        case = cases.open(job.id, at=noon + 6 * DAY + HOUR, **told)  # at once: nobody can deliver from here on
        deadlines.enforce(case.id, at=case.hard_stop_at)

        ruling = Ruling.objects.get(dispute=case)
        assert "as if the client had aborted" in ruling.reasons
        assert ruling.seller_units == 5_000_000

    def test_leaves_the_bond_alone(self, case_at, moderator, noon):
        case = case_at("under_review", seller_bond=5_000_000)
        decision = Decision(seller_bps=0, bond_to="client", redo=True)

        with pytest.raises(Invalid) as refusal:
            ruled(case, moderator, at=noon + 3 * DAY, decision=decision)

        assert refusal.value.errors[0].pointer == "/bond"


class TestFinal:
    def test_pays_nothing_out_of_a_hold_that_is_not_as_agreed(self, case_at, alice, noon):
        case = case_at("ruled")
        moves = [ledger.Move("available", str(alice.id), -5), ledger.Move("hold", f"job:{case.job_id}", 5)]
        ledger.post("mistake", kind="test", moves=moves, at=noon)

        with pytest.raises(holds.NotAsAgreed), transaction.atomic():
            arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert Dispute.objects.get().state == "ruled"
        ledger.post("undone", kind="test", moves=[m._replace(amount_units=-m.amount_units) for m in moves], at=noon)
        assert arbitration.finalise(case.id, at=noon + 5 * DAY).state == "final"

    def test_is_only_for_a_job_that_is_disputed(self, case_at, noon):
        case = case_at("ruled")
        Job.objects.filter(pk=case.job_id).update(state="delivered")

        with pytest.raises(job_lifecycle.TransitionNotAllowed), transaction.atomic():
            arbitration.finalise(case.id, at=noon + 5 * DAY)

        assert Dispute.objects.get().state == "ruled"
        Job.objects.filter(pk=case.job_id).update(state="disputed")

    def test_tells_both_sides(self, case_at, alice, bob):
        case = case_at("final")

        told = Event.objects.filter(type="dispute.final", data__dispute_id=str(case.id))
        assert {event.recipient_id for event in told} == {alice.id, bob.id}
        assert {event.data["seller_bps"] for event in told} == {"3000"}


class TestTheDefaultInTime:
    """Rows 12 and 13: silence of staff is a ruling, which can be appealed."""

    def test_is_the_one_that_was_announced_however_late_the_sweep(self, job_at, bob, noon):
        job = job_at("in_progress", delivery_seconds=7 * 86_400)  # the time of delivery ends after that of the ruling
        case = cases.open(
            job.id, opener=bob, reason="other", statement=STATEMENT, requested_seller_bps=0, at=noon + HOUR
        )
        deadlines.enforce(case.pk, at=noon + HOUR + 3 * DAY)
        announced = Job.objects.get(pk=job.pk).deadline_effect

        case = deadlines.enforce(case.pk, at=noon + 20 * DAY)

        ruling = Ruling.objects.get()
        assert "24.750000 USDC to the seller" in announced
        assert (ruling.is_default, ruling.seller_bps) == (True, 5_000)
        assert case.appeal_by == noon + 22 * DAY  # the parties have their full time

    def test_is_no_loss_and_can_be_appealed(self, case_at, alice, noon):
        case = case_at("under_review")
        case = deadlines.enforce(case.pk, at=noon + 6 * DAY)
        assert case.state == "ruled"
        case = appealed(case, alice, at=noon + 7 * DAY)

        case = deadlines.enforce(case.pk, at=noon + 10 * DAY)

        assert (case.state, case.lost_by) == ("final", None)
