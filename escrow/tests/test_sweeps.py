"""Sweeps where somebody else sweeps too, or pays in while one is under way."""

import secrets

from escrow import deposit_addresses, scans, sweeps
from escrow.chain import forwarders, local
from escrow.models import Deposit
from escrow.tests.chain import UNITS
from escrow.tests.treasury import run


def sweep_as_a_stranger(chain, agent) -> None:
    stranger = "0x" + secrets.token_hex(32)
    chain.node.ask("anvil_setBalance", "0x" + local.address_of(stranger).hex(), hex(local.ETHER))
    call = forwarders.sweep_call([deposit_addresses.of(agent).salt], token=chain.usdc)
    chain.do(chain.factory, call, key=stranger)


class TestStranger:
    def test_who_empties_addresses_does_not_take_the_place_of_full_ones(self, chain, alice, bob, pay_in, monkeypatch):
        monkeypatch.setattr(sweeps, "BATCH", 1)
        pay_in(alice, 200 * UNITS)
        sweep_as_a_stranger(chain, alice)
        pay_in(bob, 150 * UNITS)
        chain.finalize()
        scans.scan()

        for _ in range(2):
            sweeps.sweep_due()
            run(chain, 1)

        assert chain.balance(chain.treasury) == 350 * UNITS
        assert not Deposit.objects.filter(swept_at=None).exists()


class TestRecord:
    def test_leaves_due_what_came_after_it_in_its_own_block(self, chain, alice, pay_in):
        pay_in(alice, 200 * UNITS)
        chain.finalize()
        scans.scan()
        relay = sweeps.sweep_due()
        run(chain, 1)
        relay.refresh_from_db()
        swept = Deposit.objects.get()
        later = {"block_number": relay.block_number, "log_index": 99, "swept_at": None}
        Deposit.objects.filter(pk=swept.pk).update(**later)

        sweeps.record(relay, chain.node.receipt(relay.tx_hash), at=relay.closed_at)

        assert Deposit.objects.get().swept_at is None
