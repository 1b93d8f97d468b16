"""The desk: what waits for whom, what sounds, the figures of the charts, and the links at the top of every page."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import alerts, clock, staff
from accounts.models import Agent
from accounts.tests.staff import sign_in
from disputes import appeals, arbitration, assignment
from disputes.console import charts, waiting
from disputes.decisions import Decision
from disputes.models import Dispute
from disputes.tests.conftest import DAY, REASONS
from escrow.models import TreasuryReading

pytestmark = pytest.mark.django_db


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture
def noon(now):
    return now - timedelta(days=3)


@pytest.fixture
def person(db):
    staff.prepare_groups()
    return lambda name, *groups: staff.prepare_account(name, groups=groups)


@pytest.fixture
def proposed(case_at, job_at, person):
    """Make a case in which mona's ruling waits for a second word."""
    mona = person("mona", "Moderators")

    def proposed() -> Dispute:
        case = case_at("under_review", job=job_at(price=150_000_000))
        return arbitration.rule(
            case.pk,
            moderator=mona,
            revision=case.revision,
            decision=Decision(seller_bps=3_000, bond_to="seller"),
            reason_codes=["not_as_agreed"],
            reasons=REASONS,
        )

    return proposed


@pytest.fixture
def appealed(case_at, bob):
    def appealed() -> Dispute:
        case = case_at("ruled")
        return appeals.file(case.pk, appellant=bob, grounds="The tables were never agreed on. ".ljust(120, "."))

    return appealed


def waits_for(user, at) -> list[Dispute]:
    return [row.dispute for row in waiting.approvals(user, at=at)]


class TestSecondWords:
    def test_wait_for_every_colleague_but_the_author(self, proposed, person, now):
        case = proposed()

        assert waits_for(person("max", "Moderators"), now) == [case]
        assert waits_for(person("mona", "Moderators"), now) == []
        assert waits_for(person("aud", "Auditors"), now) == []

    def test_come_first_where_they_are_asked_of_oneself(self, proposed, person, now):
        first, second = proposed(), proposed()
        max_ = person("max", "Moderators")
        Dispute.objects.filter(pk=first.pk).update(approver=None)
        Dispute.objects.filter(pk=second.pk).update(approver=max_)

        assert waits_for(max_, now) == [second, first]

    def test_wait_for_nobody_with_a_stake(self, proposed, person, alice, bob, carol, now):
        proposed()
        max_, may = person("max", "Moderators"), person("may", "Moderators")
        Agent.objects.filter(pk=alice.pk).update(owner=max_)

        assert waits_for(max_, now) == []
        assert len(waits_for(may, now)) == 1

    def test_wait_for_nobody_who_stepped_back(self, proposed, case_at, job_at, person, now):
        max_, mona = person("max", "Moderators"), person("mona", "Moderators")
        case = case_at("under_review", job=job_at(price=150_000_000))
        assignment.take(case.pk, moderator=max_)
        assignment.recuse(case.pk, moderator=max_, reason="I know the people behind it.")
        case.refresh_from_db()
        if case.assigned_to_id not in (None, mona.pk):
            assignment.reassign(case.pk, by=case.assigned_to, to=mona, reason="Mona knows such cases.")
            case.refresh_from_db()
        ruling = {"decision": Decision(seller_bps=3_000, bond_to="seller"), "reason_codes": ["other"]}
        arbitration.rule(case.pk, moderator=mona, revision=case.revision, reasons=REASONS, **ruling)

        assert waits_for(max_, now) == []
        assert len(waits_for(person("may", "Moderators"), now)) == 1

    def test_on_an_appeal_wait_for_other_seniors_alone(self, appealed, person, now, moderator):
        case = appealed()
        sue, sam = person("sue", "Senior moderators"), person("sam", "Senior moderators")
        worse = {"decision": Decision(seller_bps=0, bond_to="seller"), "reason_codes": ["fraud"]}
        assert appeals.replace(case.pk, senior=sue, revision=case.revision, reasons=REASONS, **worse)
        assert Dispute.objects.get().state == "appealed", "a finding of fraud takes a second person"

        assert waits_for(sam, now) == [case]
        assert waits_for(sue, now) == []
        assert waits_for(person("max", "Moderators"), now) == []


class TestAppeals:
    def test_wait_for_seniors_who_had_no_part_in_the_ruling(self, case_at, bob, person, now):
        sue, sam = person("sue", "Senior moderators"), person("sam", "Senior moderators")
        case = case_at("under_review")
        ruling = {"decision": Decision(seller_bps=3_000, bond_to="seller"), "reason_codes": ["other"]}
        arbitration.rule(case.pk, moderator=sue, revision=case.revision, reasons=REASONS, **ruling)
        appeals.file(case.pk, appellant=bob, grounds="The tables were never agreed on. ".ljust(120, "."))

        def of(user) -> list[Dispute]:
            return [row.dispute for row in waiting.appeals(user, at=now)]

        assert of(sam) == [case]
        assert of(sue) == []
        assert of(person("max", "Moderators")) == []
        assignment.take(case.pk, moderator=sam)
        assert of(person("sol", "Senior moderators")) == []


class TestThePage:
    def test_shows_each_group_what_is_theirs(self, proposed, person, now):
        proposed()
        alerts.sound("relayer_gas_low", "0x2121", detail="An hour <b>left\u202e.", at=now)

        def seen(name: str, group: str) -> str:
            return sign_in(Client(), person(name, group)).get("/admin/").content.decode()

        moderator, senior = seen("max", "Moderators"), seen("sue", "Senior moderators")
        treasurer, auditor = seen("tess", "Treasurers"), seen("aud", "Auditors")
        assert "My cases" in moderator
        assert "Waiting for my second word" in moderator
        assert "Sounding now" not in moderator
        assert "Money in custody" not in moderator
        assert "Appeals nobody hears yet" in senior
        assert "Appeals nobody hears yet" not in moderator
        assert "An hour &lt;b&gt;left\\u{202E}." in treasurer
        assert "Money in custody against liabilities" in treasurer
        assert "Open cases by age" not in treasurer
        assert "Open cases by age" in auditor
        assert "Take next" not in auditor

    def test_costs_the_same_however_much_waits(self, proposed, appealed, case_at, person, now):
        client = sign_in(Client(), person("sue", "Senior moderators"))
        proposed()
        appealed()
        case_at("under_review")
        client.get("/admin/")
        with CaptureQueriesContext(connection) as first:
            client.get("/admin/")
        for _ in range(2):
            proposed()
            appealed()
            case_at("under_review")
        with CaptureQueriesContext(connection) as second:
            client.get("/admin/")

        assert len(second) == len(first)


class TestFigures:
    def test_count_living_cases_by_age(self, case_at, now):
        case_at("final")
        case = case_at("under_review")

        counted = {bar.name: (bar.value, bar.late) for bar in charts.ages(case.created_at + 6 * DAY)}

        assert counted["3 to 7 days"] == (1, 1)
        assert sum(value for value, _ in counted.values()) == 1

    def test_count_the_rulings_that_stand(self, case_at, moderator, now):
        for bps in (0, 3_000, 3_000, 10_000):
            case = case_at("under_review")
            ruling = {"decision": Decision(seller_bps=bps, bond_to="seller"), "reason_codes": ["other"]}
            arbitration.rule(case.pk, moderator=moderator, revision=case.revision, reasons=REASONS, at=now, **ruling)

        def counted(at) -> dict[str, int]:
            return {bar.name: bar.value for bar in charts.rulings(at)}

        assert counted(now) == {
            "Seller wins fully": 1, "Split": 2, "Client wins fully": 1, "Redo": 0, "By default": 0,
        }  # fmt: skip
        assert sum(counted(now + 91 * DAY).values()) == 0

    def test_show_money_to_those_who_may_see_it(self, person, settings, now):
        settings.CHAIN_ID = 31337
        settings.USDC_ADDRESS, settings.DEPOSIT_FACTORY_ADDRESS = "0x" + "11" * 20, "0x" + "22" * 20
        units = dict.fromkeys(
            ["treasury_units", "cold_units", "unswept_units", "custody_units", "liabilities_units", "shortfall_units",
             "difference_units", "pending_units"], 7,
        )  # fmt: skip
        TreasuryReading.objects.create(chain_id=31337, block_number=1, block_at=now, read_at=now, **units)

        assert [point.liabilities_units for point in charts.money(person("tess", "Treasurers"), now)] == [7]
        assert charts.money(person("mona", "Moderators"), now) == []


class TestLinks:
    @pytest.mark.parametrize(
        ("group", "shown", "hidden"),
        [
            ("Moderators", {"Desk", "Cases", "Agents"}, {"Treasury", "Audit"}),
            ("Treasurers", {"Desk", "Treasury", "Agents"}, {"Cases", "Audit"}),
            ("Auditors", {"Desk", "Cases", "Agents", "Treasury", "Audit"}, set()),
        ],
    )
    def test_lead_where_one_may_go(self, person, group, shown, hidden):
        client = sign_in(Client(), person("nell", group))
        links = {link.name: link.address for link in client.get("/admin/").context["console_links"]}

        assert shown <= set(links)
        assert not hidden & set(links)
        for address in links.values():
            assert client.get(address).status_code == 200, address
