import pytest

from escrow import ledger
from escrow.ledger import Move
from escrow.models import ScanCursor

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
