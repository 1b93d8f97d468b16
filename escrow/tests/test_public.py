from datetime import timedelta

import pytest

from accounts.models import AuditSeal
from escrow import ledger, scans, watch
from escrow.ledger import Move
from escrow.models import ScanCursor, TreasuryReading

pytestmark = pytest.mark.django_db


class TestFees:
    def test_are_what_the_settings_say(self, client, settings):
        settings.FEE_BPS, settings.WITHDRAWAL_FEE_UNITS = 250, 750_000

        answer = client.get("/v1/fees").json()

        assert (answer["fee_bps"], answer["withdrawal_fee"]) == (250, "0.750000")
        assert answer["dispute_deposit_minimum"] == "1.000000"


class TestSolvency:
    def test_of_an_empty_house(self, client):
        answer = client.get("/v1/solvency").json()

        assert (answer["liabilities"], answer["custody"], answer["as_of_block"]) == ("0.000000", "0.000000", None)
        assert answer["ledger_head"] == {"transfer_id": "0", "entry_id": "0"}
        assert answer["chain"] is None

    def test_shows_liabilities_custody_and_what_is_missing(self, client, alice, credit, noon):
        credit(alice, 10_000_000)
        moves = [Move("shortfall", "platform", -2_000_000), Move("custody", "chain:31337", 2_000_000)]
        posting = ledger.post("t:lost", kind="test", moves=moves, at=noon)
        ScanCursor.objects.create(chain_id=31337, block_number=77, block_hash=b"\x07" * 32)

        answer = client.get("/v1/solvency").json()

        assert (answer["liabilities"], answer["custody"], answer["shortfall"]) == ("10.000000", "8.000000", "2.000000")
        assert (answer["chain_id"], answer["as_of_block"]) == (31337, 77)
        assert answer["ledger_head"]["transfer_id"] == str(posting.transfer_id)
        assert answer["audit_seal"] is None

    def test_shows_the_head_of_the_audit_log(self, client, noon):
        AuditSeal.objects.create(position=6, chain_hash=b"\x06" * 32, sealed_at=noon - timedelta(minutes=1))
        AuditSeal.objects.create(position=7, chain_hash=b"\x07" * 32, sealed_at=noon)

        answer = client.get("/v1/solvency").json()

        assert answer["audit_seal"] == {
            "position": 7,
            "chain_hash": "07" * 32,
            "sealed_at": "2026-11-21T12:00:00.000000Z",
        }

    def test_shows_what_the_chain_was_last_seen_to_hold_without_asking_it(self, client, chain, rich, settings):
        chain.finalize()
        scans.scan()
        reading = watch.watch()
        settings.CHAIN_RPC_URL = "http://127.0.0.1:9"

        answer = client.get("/v1/solvency").json()

        assert answer["chain"] == {
            **{"holdings": "100.000000", "cold": "0.000000", "difference": "0.000000"},
            **{"block": reading.block_number, "block_at": _text(reading.block_at), "read_at": _text(reading.read_at)},
        }
        assert answer["custody"] == "100.000000"

    def test_shows_the_newest_reading_and_money_that_is_missing(self, client, noon):
        for minute, difference in ((2, 0), (1, -30_000_000), (3, 5)):
            TreasuryReading.objects.create(
                **{"chain_id": 31337, "block_number": minute, "block_at": noon, "treasury_units": 70_000_000},
                **{"cold_units": 7, "unswept_units": 1, "custody_units": 0, "liabilities_units": 0},
                **{"shortfall_units": 0, "difference_units": difference, "pending_units": 0},
                read_at=noon - timedelta(minutes=minute),
            )

        shown = client.get("/v1/solvency").json()["chain"]

        assert (shown["holdings"], shown["cold"], shown["difference"]) == ("70.000008", "0.000007", "-30.000000")
        assert shown["block"] == 1


def _text(at):
    return at.isoformat().replace("+00:00", "Z")
