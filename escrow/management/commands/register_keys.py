from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts import audit
from accounts.errors import Conflict
from escrow import treasury
from escrow.chain import addresses, network


class Command(BaseCommand):
    help = (
        "Record the addresses of the keys, once, where the keys are (BAILEE_PROCESS=treasury): from then on this"
        " treasury signs, these relayers pay gas, and the treasuries before it and TREASURY_COLD_ADDRESS are watched."
        " A second run changes nothing."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        from escrow.signing import keys  # refuses to be imported anywhere else

        here, node = network.current(), network.node()
        try:
            keys.open_all()  # a relayer whose key does not open is not left out in silence
            signing = [*keys.earlier_treasury_addresses(), keys.treasury_address()]
            self._record_treasuries(here.chain_id, signing)
        except (Conflict, addresses.BadAddress, keys.KeyRefused) as refusal:
            raise CommandError(str(refusal)) from None
        for relayer in keys.relayer_addresses():
            next_nonce = node.transaction_count(relayer, block="pending")
            with transaction.atomic():
                treasury.register_relayer(relayer, chain_id=here.chain_id, next_nonce=next_nonce)
                audit.command("register_keys", subject=f"relayer:{addresses.to_text(relayer)}")
            self.stdout.write(f"relayer {addresses.to_text(relayer)}")

    @transaction.atomic
    def _record_treasuries(self, chain_id: int, signing: list[bytes]) -> None:
        if settings.TREASURY_COLD_ADDRESS:
            cold = addresses.parse(settings.TREASURY_COLD_ADDRESS)
            treasury.register(cold, chain_id=chain_id, cold=True)
            self.stdout.write(f"cold treasury {addresses.to_text(cold)}")
            audit.command("register_keys", subject=f"treasury:{addresses.to_text(cold)}", cold=True)
        treasury.register_in_order(signing, chain_id=chain_id)
        for address in signing:
            audit.command("register_keys", subject=f"treasury:{addresses.to_text(address)}")
            self.stdout.write(f"treasury {addresses.to_text(address)}")
