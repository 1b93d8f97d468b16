import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import audit
from accounts.audit_verification import Kept

_HEAD = re.compile(r"([1-9][0-9]{0,17}):(?:0x)?([0-9a-fA-F]{64})", re.ASCII)


class Command(BaseCommand):
    help = (
        "Read the audit log again and name the first row that was edited, deleted, reordered, inserted or cut off."
        " Give --expect a head that was published (log, /v1/solvency) and kept elsewhere: only that proves that the"
        " log was not rewritten as a whole. Exit code 1 if anything is wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--expect", metavar="POSITION:HASH", help="a head that was published")
        parser.add_argument("--since", type=int, default=0, metavar="POSITION", help="begin after this link")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["since"] < 0:
            raise CommandError("--since is a position, 0 or more.", returncode=2)
        expect = _kept(options["expect"]) if options["expect"] else None
        if expect is not None and expect.position < options["since"]:
            raise CommandError("--expect is before --since: it would not be looked at.", returncode=2)
        wrong = audit.verify(expect, since=options["since"], progress=self._tell)
        if wrong:
            raise CommandError(f"The audit log was changed: {wrong[0]}.", returncode=1)
        head = audit.head()
        if head is None:
            self.stdout.write("The audit log is whole; nothing is sealed yet.")
        else:
            self.stdout.write(f"The audit log is whole. Head: {head['position']}:{head['chain_hash']}")

    def _tell(self, done: int, end: int) -> None:
        self.stderr.write(f"{done:,} of {end:,}")


def _kept(text: str) -> Kept:
    found = _HEAD.fullmatch(text)
    if found is None:
        raise CommandError("--expect is POSITION:HASH, as it was published.", returncode=2)
    return Kept(int(found[1]), bytes.fromhex(found[2]))
