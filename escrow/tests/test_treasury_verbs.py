"""What treasurers do on their page: each verb asks first, is refused in a sentence, and counts once."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client

from accounts import alerts, clock, ids, pauses
from accounts.models import IdempotencyRecord, Pause, PauseChange
from accounts.tests.staff import sign_in
from escrow import ledger, treasury, watch, withdrawals
from escrow.chain import addresses
from escrow.console import asking
from escrow.models import Outflow, Treasury, Withdrawal, WithdrawalApproval
from escrow.tests.chain import UNITS
from escrow.tests.console import form_of, say_yes, signed_in, text_of, url_of

pytestmark = pytest.mark.django_db
ELSEWHERE = addresses.to_text(b"\x11" * 20)


@pytest.fixture
def income(noon):
    """20 USDC of fees."""
    moves = [ledger.Move("custody", "chain:31337", -20 * UNITS), ledger.Move("penalties", "platform", 20 * UNITS)]
    ledger.post(f"test:{ids.uuid7()}:income", kind="deposit", moves=moves, at=noon)


@pytest.fixture
def cold(chain, rich, settings) -> bytes:
    address = b"\x33" * 20
    Treasury.objects.create(chain_id=chain.chain_id, address=address, cold=True)
    settings.TREASURY_COLD_ADDRESS = addresses.to_text(address)
    return address


@pytest.fixture
def known(stolen, alice) -> Outflow:
    """The 60 USDC that left went, by an authorization, to an address in Alice's book."""
    from escrow.tests.treasury import entry_for

    entry_for(alice, stolen.receiver)
    Outflow.objects.filter(pk=stolen.pk).update(nonce=b"\x05" * 32)
    return stolen


def asked_income(page: Client, **given: str):
    return say_yes(page, url_of("platform"), amount="5", address=ELSEWHERE, **given)


class TestApproving:
    def test_shows_what_it_is_about_and_asks_for_a_reason(self, page, held):
        said = text_of(page.get(url_of("approve", held.pk)))

        assert "Approve a payout of 40.000000 USDC" in said
        assert addresses.to_text(held.address) in said
        assert "Held because above the amount that goes by itself" in said
        assert "Approvals 0 of 1" in said
        assert "nobody can take it back once it is signed" in said
        assert Withdrawal.objects.get().state == "held"

    def test_lets_it_go(self, page, tess, held):
        answer = say_yes(page, url_of("approve", held.pk), reason="Known customer, asked by phone.")

        assert answer.redirect_chain == [("/admin/treasury/", 302)]
        assert "You approved the payout of 40.000000 USDC." in text_of(answer)
        approval = WithdrawalApproval.objects.get()
        assert (approval.by, approval.reason) == (tess, "Known customer, asked by phone.")
        assert Withdrawal.objects.get().state == "requested"

    def test_of_two_says_who_was_first(self, page, held, make_treasurer):
        Withdrawal.objects.update(approvals_needed=2)
        first = text_of(page.get(url_of("approve", held.pk)))
        say_yes(page, url_of("approve", held.pk))
        other = signed_in(make_treasurer("theo"))

        said = text_of(other.get(url_of("approve", held.pk)))
        listed = text_of(other.get("/admin/treasury/"))
        say_yes(other, url_of("approve", held.pk))

        assert "You are number 1 of 2: another treasurer has to agree" in first
        assert "Approvals 1 of 2 tess: As discussed." in said
        assert "approvals: 1 of 2 (by tess)" in listed
        assert Withdrawal.objects.get().state == "requested"

    def test_alone_twice_is_refused(self, page, held):
        Withdrawal.objects.update(approvals_needed=2)
        say_yes(page, url_of("approve", held.pk))

        again = say_yes(page, url_of("approve", held.pk))

        assert "You have approved this withdrawal already; another treasurer has to." in text_of(again)
        assert Withdrawal.objects.get().state == "held"

    def test_the_same_page_twice_is_once(self, page, held):
        form = form_of(page, url_of("approve", held.pk)) | {"reason": "Fine."}
        page.post(url_of("approve", held.pk), form)

        again = page.post(url_of("approve", held.pk), form, follow=True)

        assert "You approved the payout of 40.000000 USDC. Your second click changed nothing." in text_of(again)
        assert WithdrawalApproval.objects.count() == 1

    def test_what_was_changed_since_the_page_was_read_is_refused(self, page, held, make_treasurer):
        Withdrawal.objects.update(approvals_needed=3)
        form = form_of(page, url_of("approve", held.pk)) | {"reason": "Fine."}
        say_yes(signed_in(make_treasurer("theo")), url_of("approve", held.pk))

        late = page.post(url_of("approve", held.pk), form, follow=True)

        assert "The withdrawal is not what was approved." in text_of(late)
        assert WithdrawalApproval.objects.count() == 1

    def test_of_ones_own_agent_is_refused(self, page, tess, held, alice):
        type(alice).objects.filter(pk=alice.pk).update(owner=tess)

        refused = say_yes(page, url_of("approve", held.pk))

        assert "Nobody approves" in text_of(refused)
        assert "yours: a colleague decides" in text_of(refused)
        assert Withdrawal.objects.get().state == "held"

    def test_after_its_time_is_refused(self, page, held):
        Withdrawal.objects.update(approve_by=clock.now() - timedelta(seconds=1))

        assert "The time to approve it is over." in text_of(say_yes(page, url_of("approve", held.pk)))
        assert Withdrawal.objects.get().state == "held"

    def test_of_what_was_called_off_is_refused(self, page, held, alice):
        form = form_of(page, url_of("approve", held.pk)) | {"reason": "Fine."}
        withdrawals.cancel(held.pk, agent=alice)

        assert "The withdrawal is not held." in text_of(page.post(url_of("approve", held.pk), form, follow=True))

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"reason": ""}, "This field is required"),
            ({"reason": " \n "}, "This field is required"),
            ({"reason": "x" * 501}, "at most 500 characters"),
            ({"key": "x"}, "Enter a valid UUID"),
            ({"key": ""}, "This field is required"),
            ({"revision": "x"}, "Enter a whole number"),
            ({"revision": "9" * 30}, "less than or equal"),
            ({"reason": "a\x00b"}, "Null characters are not allowed"),
        ],
    )
    def test_with_bad_input_says_what_is_wrong(self, page, held, given, said):
        answer = say_yes(page, url_of("approve", held.pk), **given)

        assert answer.status_code == 200
        assert said in text_of(answer)
        assert Withdrawal.objects.get().state == "held"

    def test_needs_the_token_of_the_page(self, tess, held):
        strict = sign_in(Client(enforce_csrf_checks=True), tess)
        form = form_of(strict, url_of("approve", held.pk)) | {"reason": "Fine."}

        assert strict.post(url_of("approve", held.pk), form).status_code == 403
        assert Withdrawal.objects.get().state == "held"

    def test_of_what_does_not_exist_is_not_found(self, page, chain):
        assert page.get(url_of("approve", uuid4())).status_code == 404
        assert page.get("/admin/treasury/payouts/x/approve/").status_code == 404


class TestRejecting:
    def test_gives_the_money_back_and_keeps_the_reason(self, page, held, alice, balance_of):
        answer = say_yes(page, url_of("reject", held.pk), reason="The address is on a list.")

        assert "You rejected the payout of 40.000000 USDC; the money is back." in text_of(answer)
        assert (Withdrawal.objects.get().state, Withdrawal.objects.get().note) == (
            "rejected",
            "Refused: The address is on a list.",
        )
        assert balance_of("available", alice) == 100 * UNITS

    def test_of_what_another_approved_meanwhile_is_refused(self, page, held, make_treasurer):
        Withdrawal.objects.update(approvals_needed=2)
        form = form_of(page, url_of("reject", held.pk)) | {"reason": "No."}
        say_yes(signed_in(make_treasurer("theo")), url_of("approve", held.pk))

        assert "not what was approved" in text_of(page.post(url_of("reject", held.pk), form, follow=True))
        assert Withdrawal.objects.get().state == "held"

    def test_twice_is_once(self, page, held, alice, balance_of):
        form = form_of(page, url_of("reject", held.pk)) | {"reason": "No."}
        page.post(url_of("reject", held.pk), form)

        again = text_of(page.post(url_of("reject", held.pk), form, follow=True))

        assert "Your second click changed nothing." in again
        assert balance_of("available", alice) == 100 * UNITS


class TestPlatformPayouts:
    def test_are_shown_back_before_they_are_asked_for(self, page, chain, income):
        form = form_of(page, url_of("platform")) | {"amount": "5", "address": ELSEWHERE, "reason": "Rent."}

        shown = page.post(url_of("platform"), form)

        assert "Is this right? " in text_of(shown)
        assert f"Amount 5.000000 USDC To {ELSEWHERE} Reason Rent." in text_of(shown)
        assert not Withdrawal.objects.exists()

    def test_wait_for_another_treasurer(self, page, tess, chain, income, make_treasurer):
        answer = asked_income(page, reason="Rent.")
        payout = Withdrawal.objects.get()

        assert "another treasurer has to approve it" in text_of(answer)
        assert (payout.state, payout.owner, payout.asked_by, payout.note) == ("held", "platform", tess, "Rent.")
        assert "asked by tess: Rent." in text_of(answer)
        assert "a colleague decides Call off" in text_of(answer)
        mine = say_yes(page, url_of("approve", payout.pk))
        assert "Nobody approves" in text_of(mine)
        say_yes(signed_in(make_treasurer("theo")), url_of("approve", payout.pk))
        assert Withdrawal.objects.get().state == "requested"

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"amount": "0"}, "An amount of USDC, like 12.5"),
            ({"amount": "-1"}, "An amount of USDC"),
            ({"amount": "1e3"}, "An amount of USDC"),
            ({"amount": "1.0000001"}, "An amount of USDC"),
            ({"amount": ""}, "This field is required"),
            ({"amount": "0.5"}, "At least 1.000000 USDC."),
            ({"amount": "21"}, "USDC"),
            ({"address": "x"}, "This is no address to pay to"),
            ({"address": ELSEWHERE[:-1]}, "This is no address to pay to"),
            ({"address": "0x" + "0" * 40}, "zero"),
            ({"reason": ""}, "This field is required"),
        ],
    )
    def test_with_bad_input_are_refused_beside_what_was_typed(self, page, chain, income, given, said):
        answer = say_yes(page, url_of("platform"), **({"amount": "5", "address": ELSEWHERE} | given))

        assert answer.redirect_chain == []
        assert said in text_of(answer)
        assert not Withdrawal.objects.exists()

    def test_are_refused_while_withdrawals_are_paused(self, page, tess, chain, income):
        pauses.pause("withdrawals", reason="A look at the keys.", by=tess)

        assert "A look at the keys." in text_of(asked_income(page))
        assert not Withdrawal.objects.exists()

    def test_change_brings_the_form_back_filled_in(self, page, chain, income):
        form = form_of(page, url_of("platform")) | {"amount": "5", "address": ELSEWHERE, "reason": "Rent."}

        shown = page.post(url_of("platform"), form | {"change": "1"}).content.decode()

        assert 'value="5"' in shown
        assert "Rent." in shown
        assert not Withdrawal.objects.exists()

    def test_the_same_page_twice_is_one_payout_and_another_page_another(self, page, chain, income):
        form = form_of(page, url_of("platform")) | {
            "amount": "5",
            "address": ELSEWHERE,
            "reason": "Rent.",
            "sure": "yes",
        }
        for _ in range(3):
            page.post(url_of("platform"), form)
        assert Withdrawal.objects.count() == 1

        page.post(url_of("platform"), form | form_of(page, url_of("platform")))

        assert Withdrawal.objects.count() == 2

    def test_one_page_does_not_stand_for_another_request(self, page, chain, income):
        form = form_of(page, url_of("platform")) | {"amount": "5", "address": ELSEWHERE, "reason": "x", "sure": "yes"}
        page.post(url_of("platform"), form)

        refused = page.post(url_of("platform"), form | {"amount": "6"})

        assert "was used for another request" in text_of(refused)
        assert Withdrawal.objects.count() == 1

    def test_are_called_off_by_who_asked(self, page, chain, income, balance_of, make_treasurer):
        asked_income(page)
        payout = Withdrawal.objects.get()

        other = say_yes(signed_in(make_treasurer("theo")), url_of("call_off", payout.pk))
        assert "Whoever asked for it can call it off" in text_of(other)
        said = say_yes(page, url_of("call_off", payout.pk))

        assert "You called off the payout of 5.000000 USDC." in text_of(said)
        assert Withdrawal.objects.get().state == "cancelled"
        assert "Called off: " in Withdrawal.objects.get().note
        assert balance_of("penalties") + balance_of("fees") == 20 * UNITS


class TestShortfall:
    def test_is_covered_with_income_once(self, page, chain, income, balance_of, noon):
        moves = [ledger.Move("shortfall", "platform", -7 * UNITS), ledger.Move("custody", "chain:31337", 7 * UNITS)]
        ledger.post("recognised:31337:ab:0", kind="outflow_write_off", moves=moves, at=noon)
        form = form_of(page, url_of("cover")) | {"amount": "7", "reason": "A key was stolen.", "sure": "yes"}

        answers = [page.post(url_of("cover"), form, follow=True) for _ in range(2)]

        assert "The loss is covered" in text_of(answers[0])
        assert balance_of("shortfall") == 0
        assert balance_of("penalties") + balance_of("fees") == 13 * UNITS

    def test_cannot_be_covered_beyond_the_loss(self, page, chain, income, balance_of):
        form = form_of(page, url_of("cover")) | {"amount": "7", "reason": "To be safe.", "sure": "yes"}

        assert "0.000000 USDC are lost for good" in text_of(page.post(url_of("cover"), form))
        assert balance_of("shortfall") == 0


class TestReturns:
    def test_are_asked_for_once(self, page, nobodys, chain):
        assert "Return" in text_of(page.get("/admin/treasury/")).split("Deposits in flight")[1]

        say_yes(page, url_of("return", nobodys.pk))
        again = say_yes(page, url_of("return", nobodys.pk))

        payout = Withdrawal.objects.get(owner="return")
        assert (payout.address, payout.amount_units, payout.state) == (chain.faucet, 7 * UNITS, "held")
        assert "on its way back" in text_of(again)
        assert "its return, which is under way" in text_of(again)

    def test_of_an_agents_deposit_are_refused(self, page, rich):
        from escrow.models import Deposit

        answer = say_yes(page, url_of("return", Deposit.objects.get().pk))

        assert "Only a final deposit that is nobody's goes back" in text_of(answer).replace("&#x27;", "'")
        assert not Withdrawal.objects.exists()

    def test_of_nothing_are_not_found(self, page, chain):
        assert page.get(url_of("return", uuid4())).status_code == 404


class TestMoves:
    def test_to_the_cold_address_take_one_word(self, page, cold, chain):
        answer = say_yes(page, url_of("cold"), amount="30")

        assert "The move is under way." in text_of(answer)
        move = Withdrawal.objects.get()
        assert (move.owner, move.address, move.amount_units, move.state) == ("internal", cold, 30 * UNITS, "requested")
        assert "Move between our addresses" in text_of(answer)

    def test_twice_by_one_page_are_one(self, page, cold):
        form = form_of(page, url_of("cold")) | {"amount": "30", "reason": "Much.", "sure": "yes"}
        page.post(url_of("cold"), form)

        again = page.post(url_of("cold"), form, follow=True)

        assert "Your second click changed nothing." in text_of(again)
        assert Withdrawal.objects.count() == 1

    def test_that_are_refused_can_be_asked_for_again(self, page, cold):
        form = form_of(page, url_of("cold")) | {"amount": "3000", "reason": "Much.", "sure": "yes"}

        for _ in range(2):
            assert "The treasury needs what would be left." in text_of(page.post(url_of("cold"), form))

        assert not IdempotencyRecord.objects.filter(scope__startswith="console:").exists()
        page.post(url_of("cold"), form | {"amount": "30"})
        assert Withdrawal.objects.count() == 1

    def test_killed_in_the_middle_are_not_done_again(self, page, tess, cold, monkeypatch):
        monkeypatch.setattr(asking, "TRIES", 1)
        form = form_of(page, url_of("cold")) | {"amount": "30", "reason": "Much.", "sure": "yes"}
        monkeypatch.setattr("escrow.internal_moves.to_cold", _killed)
        with pytest.raises(KeyboardInterrupt):
            page.post(url_of("cold"), form)
        monkeypatch.undo()
        monkeypatch.setattr(asking, "TRIES", 1)

        again = page.post(url_of("cold"), form)

        assert "Your first click is still under way: look again in a moment." in text_of(again)
        assert not Withdrawal.objects.exists()

    def test_without_any_treasury_are_refused_aloud(self, page, chain):
        answer = page.get("/admin/treasury/cold/", follow=True)

        assert answer.status_code == 200
        assert "No treasury is set up for this chain" in text_of(answer)

    def test_without_a_cold_address_are_refused(self, page, rich):
        assert "No cold address is set up." in text_of(say_yes(page, url_of("cold"), amount="30"))

    def test_while_the_node_is_away_are_refused(self, page, cold, settings):
        form = form_of(page, url_of("cold")) | {"amount": "30", "reason": "Much.", "sure": "yes"}
        settings.CHAIN_RPC_URL = "http://127.0.0.1:9"

        assert "The chain cannot be read at the moment." in text_of(page.post(url_of("cold"), form))

    def test_empty_an_earlier_treasury(self, page, chain, rich):
        old = Treasury.objects.get()
        treasury.register(b"\x22" * 20, chain_id=chain.chain_id)

        answer = say_yes(page, url_of("drain", old.pk))

        assert "The move is under way." in text_of(answer)
        move = Withdrawal.objects.get()
        assert (move.source, move.address, move.amount_units) == (chain.treasury, b"\x22" * 20, 100 * UNITS)

    def test_do_not_empty_the_one_that_signs(self, page, rich):
        answer = say_yes(page, url_of("drain", Treasury.objects.get().pk))

        assert "It is the treasury that signs" in text_of(answer)
        assert page.get(url_of("drain", 999_999)).status_code == 404


def _killed(**_: object) -> None:
    raise KeyboardInterrupt


class TestSwitches:
    def test_are_set_and_kept_with_a_reason(self, page, tess, chain):
        paused = say_yes(page, url_of("pause", "withdrawals"), reason="The keys are being looked at.")
        assert "Withdrawals are paused." in text_of(paused)
        assert "Withdrawals paused Resume" in text_of(paused)
        assert "Paused: withdrawals." in text_of(paused)
        asked = text_of(page.get(url_of("resume", "withdrawals")))
        assert "Now paused" in asked
        assert "By tess" in asked
        assert "Reason The keys are being looked at." in asked

        resumed = say_yes(page, url_of("resume", "withdrawals"), reason="They are fine.")

        assert "Withdrawals are open again." in text_of(resumed)
        assert list(PauseChange.objects.order_by("revision").values_list("paused", "by", "reason")) == [
            (True, tess.pk, "The keys are being looked at."),
            (False, tess.pk, "They are fine."),
        ]

    @pytest.mark.parametrize("flag", ["withdrawals", "deposits", "new_jobs"])
    def test_are_three(self, page, chain, flag):
        say_yes(page, url_of("pause", flag))
        assert pauses.is_paused(flag)

        say_yes(page, url_of("resume", flag))
        assert not pauses.is_paused(flag)

    def test_that_do_not_exist_are_not_found(self, page):
        assert page.get(url_of("pause", "everything")).status_code == 404

    def test_say_what_they_were_set_by(self, page, chain):
        watch.alarm("custody_mismatch", "", "12.000000 USDC are missing.")

        said = text_of(page.get("/admin/treasury/"))

        assert "custody_mismatch: 12.000000 USDC are missing." in said
        assert "by itself: Ledger and chain do not agree" in said
        assert "By itself: Ledger and chain do not agree" in text_of(page.get(url_of("resume", "withdrawals")))

    def test_stay_set_while_something_is_unknown(self, page, chain):
        watch.alarm("unexplained_outflow", str(uuid4()), "60 USDC left.")

        refused = text_of(say_yes(page, url_of("resume", "withdrawals")))

        assert "Not everything on the chain is known yet: unexplained_outflow." in refused
        assert pauses.is_paused("withdrawals")
        alerts.clear_others("unexplained_outflow", still=[])
        say_yes(page, url_of("resume", "withdrawals"))
        assert not pauses.is_paused("withdrawals")

    def test_set_anew_meanwhile_are_not_resumed_by_an_old_page(self, page, chain, make_treasurer):
        say_yes(page, url_of("pause", "withdrawals"))
        old = form_of(page, url_of("resume", "withdrawals")) | {"reason": "Fine."}
        say_yes(signed_in(make_treasurer("theo")), url_of("resume", "withdrawals"))
        watch.alarm("custody_mismatch", "", "12.000000 USDC are missing.")

        late = page.post(url_of("resume", "withdrawals"), old, follow=True)

        assert "Somebody, or an alert, changed the switch meanwhile: look again." in text_of(late)
        assert Pause.objects.get().cause == "custody_mismatch"

    def test_twice_are_once(self, page, chain):
        form = form_of(page, url_of("pause", "deposits")) | {"reason": "x"}
        for _ in range(2):
            answer = page.post(url_of("pause", "deposits"), form, follow=True)

        assert "Your second click changed nothing." in text_of(answer)
        assert PauseChange.objects.count() == 1


class TestOutflows:
    def test_are_attributed_to_an_agent_that_knows_the_address(self, page, known, alice, balance_of):
        asked = text_of(page.get(url_of("attribute", known.pk)))
        assert "Known to alice" in asked

        shown = say_yes(page, url_of("attribute", known.pk), agent=str(alice.pk), reason="From the backup's log.")

        assert "The transfer of 60.000000 USDC is explained." in text_of(shown)
        assert balance_of("available", alice) == 40 * UNITS
        outflow = Outflow.objects.get(pk=known.pk)
        assert (outflow.explanation, outflow.reason) == ("payout", "From the backup's log.")

    def test_are_not_attributed_to_a_stranger(self, page, known, bob):
        answer = say_yes(page, url_of("attribute", known.pk), agent=str(bob.pk))

        assert "Select a valid choice" in text_of(answer)
        assert Outflow.objects.get(pk=known.pk).explanation == ""

    def test_are_not_attributed_to_ones_own_agent(self, page, tess, known, alice):
        type(alice).objects.filter(pk=alice.pk).update(owner=tess)

        refused = say_yes(page, url_of("attribute", known.pk), agent=str(alice.pk))

        assert "Nobody approves" in text_of(refused)
        assert Outflow.objects.get(pk=known.pk).explanation == ""

    def test_are_written_off_once(self, page, tess, stolen, balance_of):
        form = form_of(page, url_of("write_off", stolen.pk)) | {"reason": "Stolen."}
        said = text_of(page.post(url_of("write_off", stolen.pk), form, follow=True))
        again = text_of(page.post(url_of("write_off", stolen.pk), form, follow=True))
        late = text_of(say_yes(page, url_of("write_off", stolen.pk)))

        assert "60.000000 USDC are written off." in said
        assert "Your second click changed nothing." in again
        assert "It is explained already, or its block is gone." in late
        assert balance_of("shortfall") == -60 * UNITS
        assert "60.000000 Shortfall" in said

    def test_that_nobody_compared_yet_are_refused(self, page, stolen):
        alerts.clear_others("unexplained_outflow", still=[])

        assert "It has not been compared with our payouts yet." in text_of(
            say_yes(page, url_of("write_off", stolen.pk))
        )
        assert Outflow.objects.get(pk=stolen.pk).explanation == ""

    def test_that_do_not_exist_are_not_found(self, page, chain):
        for name in ("attribute", "write_off"):
            assert page.get(url_of(name, uuid4())).status_code == 404


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def test_one_page_sent_eight_times_is_one_payout(self, race, chain, tess, income):
        form = form_of(signed_in(tess), url_of("platform"))
        form |= {"amount": "5", "address": ELSEWHERE, "reason": "Rent.", "sure": "yes"}
        clients = [signed_in(tess) for _ in range(8)]

        answers = race(*(lambda client=client: client.post(url_of("platform"), form) for client in clients))

        assert [answer.status_code for answer in answers] == [302] * 8
        assert Withdrawal.objects.count() == 1

    def test_one_page_sent_eight_times_is_one_move(self, race, tess, cold):
        form = form_of(signed_in(tess), url_of("cold")) | {"amount": "10", "reason": "Much.", "sure": "yes"}
        clients = [signed_in(tess) for _ in range(8)]

        answers = race(*(lambda client=client: client.post(url_of("cold"), form) for client in clients))

        assert [answer.status_code for answer in answers] == [302] * 8
        assert Withdrawal.objects.count() == 1

    def test_eight_treasurers_approve_once(self, race, held, make_treasurer):
        clients = [signed_in(make_treasurer(f"t{number}")) for number in range(8)]
        forms = [form_of(client, url_of("approve", held.pk)) | {"reason": "Fine."} for client in clients]
        url = url_of("approve", held.pk)

        race(*(lambda pair=pair: pair[0].post(url, pair[1]) for pair in zip(clients, forms, strict=True)))

        assert WithdrawalApproval.objects.count() == 1
        assert Withdrawal.objects.get().state == "requested"

    def test_four_approve_and_four_reject(self, race, held, alice, make_treasurer, balance_of):
        clients = [signed_in(make_treasurer(f"t{number}")) for number in range(8)]
        urls = [url_of(("approve", "reject")[number % 2], held.pk) for number in range(8)]
        forms = [form_of(client, url) | {"reason": "x"} for client, url in zip(clients, urls, strict=True)]

        race(*(lambda one=one: one[0].post(one[1], one[2]) for one in zip(clients, urls, forms, strict=True)))

        state = Withdrawal.objects.get().state
        assert (state, balance_of("available", alice)) in [
            ("requested", 59_500_000),
            ("rejected", 100 * UNITS),
        ]

    def test_eight_pause_once(self, race, chain, make_treasurer):
        clients = [signed_in(make_treasurer(f"t{number}")) for number in range(8)]
        url = url_of("pause", "withdrawals")
        forms = [form_of(client, url) | {"reason": "x"} for client in clients]

        race(*(lambda pair=pair: pair[0].post(url, pair[1]) for pair in zip(clients, forms, strict=True)))

        assert PauseChange.objects.count() == 1
