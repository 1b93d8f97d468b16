from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from escrow import treasury
from escrow.chain import addresses, local, network
from escrow.models import ScanCursor


class Command(BaseCommand):
    help = "Set up the local chain: test USDC, deposit factory, throw-away keys. A second run changes nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.LOCAL:
            raise CommandError("contracts are deployed to a real chain by hand, with the owner's cold key (docs/)")
        node = network.node()
        self._refuse_another_chain(node)
        try:
            chain = local.deploy(node, rpc_url=settings.CHAIN_RPC_URL, state_dir=Path(settings.STATE_DIR))
        except local.NotLocal as error:
            raise CommandError(str(error)) from None
        treasury.register(addresses.parse(chain["treasury"]), chain_id=chain["chain_id"])
        for relayer in chain["relayers"]:
            treasury.register_relayer(relayer, chain_id=chain["chain_id"], next_nonce=node.transaction_count(relayer))
        self.stdout.write(f"chain {chain['chain_id']}: USDC {chain['usdc']}, factory {chain['factory']}")

    def _refuse_another_chain(self, node: Any) -> None:
        """A fresh chain under a database that remembers deposits would be money lost."""
        cursor = ScanCursor.objects.filter(chain_id=node.chain_id()).first()
        if cursor is None or cursor.finalized_hash is None:
            return
        block = node.block(cursor.finalized_number)
        if block is None or block.hash != cursor.finalized_hash:
            raise CommandError("this chain is not the one the database knows: start both anew (another STATE_DIR)")
