"""Every staff verb of escrow and every page of the treasury that acts leaves a record of whoever acted."""

import importlib
import inspect
import pkgutil

import pytest
from django.core.management import call_command
from django.urls import reverse

import accounts
import escrow
from accounts import alerts, pauses
from accounts.models import AgentKey, AuditRecord
from accounts.tests.signers import Signer
from escrow import platform_payouts, treasury, withdrawals
from escrow.chain import addresses
from escrow.console import urls
from escrow.models import Treasury
from escrow.tests.chain import UNITS
from escrow.tests.console import say_yes, url_of
from escrow.tests.test_treasury_verbs import ELSEWHERE, cold, income, known  # noqa: F401 (fixtures)

pytestmark = pytest.mark.django_db
READING = {"treasury", "treasury_live"}
# the verb of a page → fixtures it needs, what it is about, what is typed, the record that it leaves
PAGES = {
    "approve": ("held", lambda held: [held.pk], {}, "withdrawal.approved"),
    "reject": ("held", lambda held: [held.pk], {}, "withdrawal.rejected"),
    "call_off": ("asked", lambda asked: [asked.pk], {}, "withdrawal.called_off"),
    "platform": ("income", lambda _: [], {"amount": "5", "address": ELSEWHERE}, "platform_payout.requested"),
    "cover": ("lost", lambda _: [], {"amount": "7"}, "shortfall.covered"),
    "return": ("nobodys", lambda deposit: [deposit.pk], {}, "return.requested"),
    "cold": ("cold", lambda _: [], {"amount": "30"}, "internal_move.requested"),
    "drain": ("old", lambda old: [old.pk], {}, "internal_move.requested"),
    "attribute": ("known", lambda outflow: [outflow.pk], {"agent": "alice"}, "outflow.attributed"),
    "write_off": ("stolen", lambda outflow: [outflow.pk], {}, "outflow.written_off"),
    "pause": ("chain", lambda _: ["deposits"], {}, "pause.set"),
    "resume": ("paused", lambda _: ["deposits"], {}, "pause.lifted"),
}
# Verbs that a person stands behind. Those with a page are tried above; the others say who tries them.
VERBS = {
    "escrow.withdrawals.approve", "escrow.withdrawals.reject", "escrow.withdrawals.call_off",
    "escrow.platform_payouts.request", "escrow.shortfalls.cover", "escrow.returns.request",
    "escrow.internal_moves.to_cold", "escrow.internal_moves.drain", "escrow.recognition.attribute",
    "escrow.recognition.write_off", "escrow.guard.resume", "accounts.pauses.pause", "accounts.pauses.resume",
    # accounts/tests/test_audit_hooks.py
    "accounts.suspensions.suspend", "accounts.suspensions.reinstate",
    # accounts/tests/test_staff_limits.py
    "accounts.staff_limits.set_limits",
    # accounts/tests/test_clockwork.py
    "accounts.schedules.change",
}  # fmt: skip
NO_ACTS = {"escrow.withdrawals.require_treasurer", "escrow.conflicts.require_none", "accounts.staff_verbs.require"}


@pytest.fixture
def asked(income, tess):  # noqa: F811
    return platform_payouts.request(by=tess, amount_units=5 * UNITS, address=b"\x11" * 20, note="Rent.")


@pytest.fixture
def lost(income, stolen, tess):  # noqa: F811
    from escrow import recognition

    return recognition.write_off(stolen.pk, by=tess, reason="Gone.")


@pytest.fixture
def old(chain, rich):
    old = Treasury.objects.get()
    treasury.register(b"\x22" * 20, chain_id=chain.chain_id)
    return old


@pytest.fixture
def paused(chain, db):
    return pauses.pause("deposits", cause="test", reason="a test")


class TestPages:
    def test_are_all_here(self):
        names = {url.name for url in urls.under(lambda view: view)} - READING

        assert {f"treasury_{name}" for name in PAGES} == names

    @pytest.mark.parametrize("name", PAGES)
    def test_leave_a_record_of_who_acted(self, name, request, page, tess):
        fixture, about, typed, action = PAGES[name]
        what = request.getfixturevalue(fixture)
        if "agent" in typed:
            typed = typed | {"agent": str(request.getfixturevalue("alice").pk)}
        before = AuditRecord.objects.filter(action=action).count()

        answer = say_yes(page, url_of(name, *about(what)), reason="Discussed with Theo.", **typed)

        assert answer.redirect_chain, answer.content.decode()
        found = AuditRecord.objects.filter(action=action)
        assert found.count() == before + 1
        record = found.latest("id")
        assert (record.user, record.agent, record.reason) == (tess, None, "Discussed with Theo.")
        assert record.subject
        assert record.address == "127.0.0.1"
        assert record.request_id

    def test_leave_none_of_what_is_refused(self, page, held):
        before = AuditRecord.objects.count()
        url = reverse("admin:treasury_approve", args=[held.pk])
        alerts.sound("x")

        page.post(url, {"key": "no key", "revision": held.revision, "reason": "x"})

        assert AuditRecord.objects.count() == before


class TestVerbs:
    def test_of_staff_are_all_here(self):
        assert _verbs_by_staff() - NO_ACTS == VERBS


class TestAgents:
    @pytest.fixture
    def signer(self, alice):
        signer = Signer()
        AgentKey.objects.create(agent=alice, public_key=signer.raw)
        return signer

    def test_asking_for_a_payout_and_calling_it_off_leaves_records(self, ask, alice):
        withdrawal = ask()
        withdrawals.cancel(withdrawal.pk, agent=alice)

        records = AuditRecord.objects.filter(agent=alice, subject=f"withdrawal:{withdrawal.pk}").order_by("id")
        assert [record.action for record in records] == ["withdrawal.requested", "withdrawal.cancelled"]
        assert bytes(records[0].after) == bytes(records[1].before)

    def test_writing_an_address_down_and_striking_it_out_leaves_records_without_the_address(
        self, rich, alice, signer, client_for
    ):
        api = client_for(alice)
        body = {"address": ELSEWHERE, "label": "mine"} | signer.answered("confirm")
        entry = api.post("/wallet/addresses", body).json()
        api.delete(f"/wallet/addresses/{entry['id']}")

        records = AuditRecord.objects.filter(agent=alice, subject=f"address:{entry['id']}").order_by("id")
        assert [record.action for record in records] == ["address.added", "address.removed"]
        assert all(record.facts == {} for record in records)


class TestCommands:
    def test_retiring_a_relayer_leaves_a_record(self, chain):
        relayer = treasury.register_relayer(b"\x44" * 20, chain_id=chain.chain_id, next_nonce=0)

        call_command("retire_relayer", addresses.to_text(relayer.address), verbosity=0)

        found = AuditRecord.objects.get(action="command.retire_relayer")
        assert (found.user, found.subject) == (None, f"relayer:{addresses.to_text(relayer.address)}")

    def test_reading_the_chain_again_leaves_a_record(self, chain):
        call_command("rescan_deposits", from_block=0, verbosity=0)

        found = AuditRecord.objects.get(action="command.rescan_deposits")
        assert found.facts == {"command": "rescan_deposits", "from_block": 0}


def _verbs_by_staff():
    """Every public function of accounts and escrow that is told which person it acts for."""
    found = set()
    for package in (accounts, escrow):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if any(part in module.name for part in (".tests", ".migrations", ".signing", ".console", ".management")):
                continue
            for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                who = inspect.signature(function).parameters.get("by")
                is_own = function.__module__ == module.name and not name.startswith("_")
                if is_own and who is not None and "User" in str(who.annotation):
                    found.add(f"{module.name}.{name}")
    return found
