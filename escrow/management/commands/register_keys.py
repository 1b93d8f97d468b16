from typing import Any

from django.core.management.base import BaseCommand

from escrow import treasury
from escrow.chain import addresses, network


class Command(BaseCommand):
    help = (
        "Record the addresses of the keystores, once, where the keys are (BAILEE_PROCESS=treasury): from then on this"
        " treasury signs and these relayers pay gas. A second run changes nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        from escrow.signing import keys  # refuses to be imported anywhere else

        here, node = network.current(), network.node()
        address = keys.treasury_address()
        treasury.register(address, chain_id=here.chain_id)
        self.stdout.write(f"treasury {addresses.to_text(address)}")
        for relayer in keys.relayer_addresses():
            next_nonce = node.transaction_count(relayer, block="pending")
            treasury.register_relayer(relayer, chain_id=here.chain_id, next_nonce=next_nonce)
            self.stdout.write(f"relayer {addresses.to_text(relayer)}")
