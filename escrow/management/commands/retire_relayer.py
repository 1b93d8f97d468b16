from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import audit
from accounts.errors import NotFound
from escrow import treasury
from escrow.chain import addresses, network
from escrow.models import Relayer


class Command(BaseCommand):
    help = "Give a relayer no new nonce from now on, and watch its gas no more. What it has under way still ends."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address")

    def handle(self, *args: Any, **options: Any) -> None:
        chain_id = network.current().chain_id
        try:
            relayer = self._retire(addresses.parse(options["address"]), chain_id)
        except (addresses.BadAddress, NotFound):
            raise CommandError("That is no relayer of this chain.") from None
        under_way = relayer.transactions.filter(closed_at=None).count()
        self.stdout.write(
            f"retired at {relayer.retired_at:%Y-%m-%d %H:%M:%S} UTC; {under_way} of its nonces are under way"
        )

    @transaction.atomic
    def _retire(self, address: bytes, chain_id: int) -> Relayer:
        relayer = treasury.retire_relayer(address, chain_id=chain_id)
        audit.command("retire_relayer", subject=f"relayer:{addresses.to_text(address)}")
        return relayer
