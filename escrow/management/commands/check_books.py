from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from escrow import books


class Command(BaseCommand):
    help = "Check every invariant of the books; exit 1 and print the rows on a mismatch."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--full", action="store_true", help="all rows, not only those since the last checkpoint")

    def handle(self, *args: Any, **options: Any) -> None:
        mismatches = books.check(full=True) if options["full"] else books.check_recent()
        for invariant in books.invariants.values():
            if not options["full"] and invariant.recent is None:
                continue
            broken = [mismatch for mismatch in mismatches if mismatch.invariant == invariant.name]
            self.stdout.write(f"{f'{len(broken)} wrong' if broken else 'ok':>8}  {invariant.name}")
            for mismatch in broken:
                self.stdout.write(f"          {mismatch}")
        if mismatches:
            raise CommandError("The books are wrong.", returncode=1)
