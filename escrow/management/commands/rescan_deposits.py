from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts import audit
from escrow import scans


class Command(BaseCommand):
    help = "Read the chain for deposits once more, from a block on. What is known stays as it is."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from-block", type=int, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        # Before it, because the chain is read between many transactions.
        audit.command("rescan_deposits", from_block=options["from_block"])
        found = scans.rescan(options["from_block"])
        self.stdout.write(f"{found} transfers to our addresses from block {options['from_block']} on")
