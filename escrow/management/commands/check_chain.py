from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.edge.fields import units_to_text
from accounts.errors import DomainError
from escrow import reconciliation
from escrow.chain import rpc


class Command(BaseCommand):
    help = (
        "Compare the books with the chain, log by log and in sum, up to the last final block; exit 1 on a difference."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-block", type=int, default=settings.CHAIN_START_BLOCK)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            strays = self._logs(options["from_block"])
            difference_units = self._sums()
        except (rpc.NodeError, rpc.ChainNotTrusted, DomainError) as error:
            raise CommandError(f"The chain cannot be read: {error}", returncode=1) from error
        if strays or difference_units:
            raise CommandError("Books and chain do not agree.", returncode=1)

    def _logs(self, first: int) -> int:
        count = 0
        for stray in reconciliation.strays(first=first):
            self.stdout.write(f"wrong  {stray}")
            count += 1
        self.stdout.write(f"{f'{count} wrong' if count else 'ok':>8}  each transfer of ours from block {first} on")
        return count

    def _sums(self) -> int:
        found = reconciliation.compare()
        for said, units in (
            ("what our addresses hold", found.holdings_units),
            ("of that, not credited yet", -found.uncredited_units),
            ("credited in later blocks", found.early_units),
            ("paid, not settled yet", found.leaving_units),
            ("settled in later blocks", -found.ahead_units),
            ("what the ledger says the chain holds", found.custody_units),
        ):
            self.stdout.write(f"{units_to_text(units):>24} USDC  {said}")
        difference = units_to_text(found.difference_units)
        self.stdout.write(f"{difference:>24} USDC  difference, as of block {found.block}")
        return found.difference_units
