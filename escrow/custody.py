"""
Custody: what the chain holds for us and what the ledger says it does, side by side as of one block.

Consistent by construction, whatever moves meanwhile: first a final block that the scan has passed is chosen, then all
rows are read by one statement, which is one snapshot, then the chain is asked as of that block's hash, which cannot
change any more. What rows and block do not both know by then is a term of the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from accounts import clock
from accounts.errors import TryLater
from escrow import heads
from escrow import withdrawal_table as table
from escrow.chain import network, rpc, usdc
from escrow.models import ScanCursor, Withdrawal

NONCES = 100  # asked for in one call
# Up to this many deposit addresses each is asked, whatever the rows say: a node may have hidden a log.
FEW = 300
# One backend of a provider may know a finalized block that the one which answers us next does not.
BEHIND = timedelta(minutes=10)


class NotScanned(TryLater):
    title = "The chain has not been read yet"


class Custody(NamedTuple):
    """Ledger and chain at one finalized block. Amounts are micro-USDC; they agree if `difference_units` is zero."""

    chain_id: int
    block: int
    block_hash: bytes
    block_at: datetime
    treasuries: dict[bytes, int]  # what each paying treasury holds, earlier ones too
    cold: dict[bytes, int]
    unswept_units: int  # what deposit addresses hold
    relayers: dict[bytes, int]  # the wei each has for gas, at this moment
    custody_units: int  # what the ledger says the chain holds
    liabilities_units: int
    shortfall_units: int
    uncredited_units: int  # in the holdings, not yet posted
    early_units: int  # posted already, in blocks above
    leaving_units: int  # paid by then, not yet settled in the books
    ahead_units: int  # out of the books already, in blocks above
    pending_units: int  # payouts that may go and have not been paid

    @property
    def treasury_units(self) -> int:
        return sum(self.treasuries.values())

    @property
    def cold_units(self) -> int:
        return sum(self.cold.values())

    @property
    def holdings_units(self) -> int:
        return self.treasury_units + self.cold_units + self.unswept_units

    @property
    def difference_units(self) -> int:
        """Ledger less chain, once what is on its way is counted: above zero, money is missing on the chain."""
        arriving_units = self.early_units - self.uncredited_units
        return self.custody_units - (self.holdings_units + arriving_units + self.leaving_units - self.ahead_units)


class Signed(NamedTuple):
    """What a treasury has signed and the books do not know to be paid or given back (micro-USDC)."""

    owner: str
    sender: bytes
    nonce: bytes
    units: int
    since_block: int


def read(*, every_address: bool = False, node: rpc.Node | None = None) -> Custody:
    """
    Read ledger and chain as of the newest block that is final and that the scan has passed.

    Where deposit addresses are many, they are asked only if rows say that something may be there; with `every_address`,
    all are.

    :raises NotScanned: if no block has been read yet
    :raises ChainNotTrusted: if the node contradicts itself, or the rows are of another branch
    :raises NodeError: if it does not answer
    """
    here, node = network.current(), node or network.node()
    before = clock.now()
    block, scan_is_behind = newest_common_block(node, here)
    # A sweep above the block has marked its deposits as swept, no earlier than its block was final. Where the scan is
    # behind that may be long ago.
    swept_since = datetime(1970, 1, 1, tzinfo=UTC) if scan_is_behind else before - BEHIND
    rows = _rows(here, block, swept_since=swept_since, every_address=every_address)
    hot, cold, addresses = rows["hot"], rows["cold"], rows["addresses"]
    units = usdc.balances_of(node, here.usdc, [*hot, *cold, *addresses], block=block.hash)
    paid = _paid(node, here, rows["signed"], block)
    return Custody(
        chain_id=here.chain_id,
        block=block.number,
        block_hash=block.hash,
        block_at=datetime.fromtimestamp(block.timestamp, UTC),
        treasuries={address: units[address] for address in hot},
        cold={address: units[address] for address in cold},
        unswept_units=sum(units[address] for address in addresses),
        relayers=_gas(node, rows["relayers"]),
        custody_units=rows["custody"],
        liabilities_units=rows["liabilities"],
        shortfall_units=rows["shortfall"],
        uncredited_units=rows["uncredited"],
        early_units=rows["early"],
        leaving_units=sum(one.units for one in paid if one.owner != Withdrawal.Owner.INTERNAL),
        ahead_units=rows["paid_above"] + rows["lost_above"],
        pending_units=rows["asked"] + sum(one.units for one in rows["signed"] if one not in paid),
    )


def newest_common_block(node: rpc.Node, here: network.Network) -> tuple[rpc.Block, bool]:
    """The newest final block that the scan has passed, and whether it is the scan that holds it back."""
    finalized = heads.trusted(node, here).finalized
    cursor = ScanCursor.objects.filter(chain_id=here.chain_id).first()
    if cursor is None:
        raise NotScanned
    if cursor.block_number >= finalized.number:
        return finalized, False
    block = node.block(cursor.block_number)
    if block is None or block.hash != cursor.block_hash:
        raise rpc.ChainNotTrusted("the block the scan has come to is not on the chain", reason="another_branch")
    return block, True


_ROWS = """
    WITH at AS (SELECT %(chain)s::bigint AS chain, %(block)s::bigint AS block),
    ledger AS (
        SELECT coalesce(-sum(balance) FILTER (WHERE kind = 'custody' AND owner_key = %(custody)s), 0) AS custody,
               coalesce(-sum(balance) FILTER (WHERE kind = 'shortfall'), 0) AS shortfall,
               coalesce(sum(balance) FILTER (WHERE kind NOT IN ('custody', 'shortfall')), 0) AS liabilities
        FROM escrow_ledgeraccount
    ),
    few AS (
        SELECT count(*) <= %(few)s AS are_few FROM (
            SELECT FROM escrow_depositaddress, at WHERE chain_id = at.chain LIMIT %(few)s + 1
        ) AS the_first
    )
    SELECT ledger.custody::bigint, ledger.shortfall::bigint, ledger.liabilities::bigint,
        (SELECT block_number FROM escrow_scancursor WHERE chain_id = at.chain) AS scanned,
        (SELECT hash FROM escrow_scannedblock WHERE chain_id = at.chain AND number = at.block) AS block_hash,
        (SELECT coalesce(sum(amount_units), 0)::bigint FROM escrow_deposit
            WHERE chain_id = at.chain AND block_number <= at.block AND posted_to = ''
                AND state IN ('seen', 'below_minimum', 'unattributed')) AS uncredited,
        (SELECT coalesce(sum(amount_units), 0)::bigint FROM escrow_deposit
            WHERE chain_id = at.chain AND posted_to <> ''
                AND (block_number > at.block OR state = 'orphaned')) AS early,
        (SELECT coalesce(sum(amount_units), 0)::bigint FROM escrow_withdrawal
            WHERE chain_id = at.chain AND block_number > at.block AND state IN ('settled', 'recognised')
                AND owner <> 'internal') AS paid_above,
        (SELECT coalesce(sum(amount_units), 0)::bigint FROM escrow_outflow
            WHERE chain_id = at.chain AND explanation = 'written_off'
                AND (block_number > at.block OR orphaned_at IS NOT NULL)) AS lost_above,
        (SELECT coalesce(sum(amount_units), 0)::bigint FROM escrow_withdrawal
            WHERE chain_id = at.chain AND state = 'requested') AS asked,
        (SELECT coalesce(array_agg(address ORDER BY id), '{}') FROM escrow_treasury
            WHERE chain_id = at.chain AND NOT cold) AS hot,
        (SELECT coalesce(array_agg(address ORDER BY id), '{}') FROM escrow_treasury
            WHERE chain_id = at.chain AND cold) AS cold,
        (SELECT coalesce(array_agg(address ORDER BY id), '{}') FROM escrow_relayer
            WHERE chain_id = at.chain AND retired_at IS NULL) AS relayers,
        (SELECT coalesce(array_agg(address), '{}') FROM escrow_depositaddress
            WHERE chain_id = at.chain AND (%(every_address)s OR few.are_few OR address IN (
                SELECT receiver FROM escrow_deposit
                WHERE chain_id = at.chain AND (swept_at IS NULL OR swept_at > %(swept_since)s)
            ))) AS addresses,
        (SELECT coalesce(json_agg(json_build_array(
                owner, encode(sender, 'hex'), encode(nonce, 'hex'), value_units, since_block
            ) ORDER BY sender, since_block), '[]')::text
            FROM escrow_withdrawal w JOIN escrow_authorization a ON a.withdrawal_id = w.id
            WHERE a.chain_id = at.chain AND w.state = ANY (%(unpaid)s)) AS signed
    FROM at, ledger, few
"""


def _rows(here: network.Network, block: rpc.Block, *, swept_since: datetime, every_address: bool) -> dict[str, Any]:
    """
    What the database knows about money on the chain, in one snapshot.

    :raises ChainNotTrusted: if the rows were walked back below the block meanwhile, or are of another branch
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _ROWS,
            {
                "chain": here.chain_id,
                "block": block.number,
                "custody": here.custody[1],
                "unpaid": [str(state) for state in table.UNPAID],
                "swept_since": swept_since,
                "every_address": every_address,
                "few": FEW,
            },
        )
        [values] = cursor.fetchall()
        rows = dict(zip((column.name for column in cursor.description), values, strict=True))
    if rows["scanned"] < block.number:
        raise rpc.ChainNotTrusted("the scan went back below a final block", reason="deep_reorg")
    if rows["block_hash"] is not None and bytes(rows["block_hash"]) != block.hash:
        raise rpc.ChainNotTrusted("the scan has read another block at this height", reason="another_branch")
    rows["signed"] = [
        Signed(owner, bytes.fromhex(sender), bytes.fromhex(nonce), units, since_block)
        for owner, sender, nonce, units, since_block in json.loads(rows["signed"])
    ]
    return rows


def _paid(node: rpc.Node, here: network.Network, signed: Sequence[Signed], block: rpc.Block) -> set[Signed]:
    """
    Those of these authorizations that had paid by then.

    A cancelled one has used its nonce up, too, and did not pay: the logs tell.

    :raises NodeUnavailable: if they do not
    """
    states = usdc.authorization_states(node, here.usdc, [(one.sender, one.nonce) for one in signed], block=block.hash)
    spent = [one for one, is_spent in zip(signed, states, strict=True) if is_spent]
    paid = set()
    for sender, group in groupby(spent, key=attrgetter("sender")):
        of_sender = list(group)
        for start in range(0, len(of_sender), NONCES):
            part = {one.nonce: one for one in of_sender[start : start + NONCES]}
            first = min(one.since_block for one in part.values())
            logs = usdc.authorization_logs(
                node, here.usdc, authorizer=sender, nonces=list(part), first=first, last=block.number
            )
            if {log.nonce for log in logs} != part.keys():
                # used before its row was written: a restored database has forgotten that
                logs = usdc.authorization_logs(
                    node,
                    here.usdc,
                    authorizer=sender,
                    nonces=list(part),
                    first=settings.CHAIN_START_BLOCK,
                    last=block.number,
                )
            if {log.nonce for log in logs} != part.keys():
                raise rpc.NodeUnavailable("the logs of used nonces are missing")
            paid |= {part[log.nonce] for log in logs if log.used}
    return paid


def _gas(node: rpc.Node, relayers: Sequence[bytes]) -> dict[bytes, int]:
    answers = node.ask_many([("eth_getBalance", [rpc.text(address), "latest"]) for address in relayers])
    return {bytes(address): rpc.number(wei) for address, wei in zip(relayers, answers, strict=True)}
