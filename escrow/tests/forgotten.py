"""What a database does not know: payouts and transactions signed with our keys outside of it, and a backup of old."""

from __future__ import annotations

from typing import Any

from django.db import connection
from eth_hash.auto import keccak

from escrow.chain import addresses, usdc
from escrow.tests.chain import LocalChain


def pay_unknown(chain: LocalChain, to: bytes, units: int, *, nonce: bytes | None = None) -> dict[str, Any]:
    """Pay with the treasury's key as a process did whose database is lost; answers the receipt."""
    return chain.do(chain.usdc, signed_payment(chain, to, units, nonce=nonce or keccak(b"forgotten" + to)))


def signed_payment(chain: LocalChain, to: bytes, units: int, *, nonce: bytes) -> bytes:
    from escrow.signing import keys

    fields = usdc.Authorization(chain.treasury, to, units, chain.head().timestamp + 7_200, nonce)
    domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
    word = keys.sign_digest(chain.treasury, usdc.authorization_digest(fields, domain))
    return usdc.payment_call(fields, v=word.v, r=word.r, s=word.s)


def cancel_unknown(chain: LocalChain, nonce: bytes) -> None:
    """Make a nonce of the treasury's unusable (ERC-3009)."""
    from escrow.signing import keys

    domain = usdc.domain_separator(chain.node, chain.usdc, chain_id=chain.chain_id)
    word = keys.sign_digest(
        chain.treasury, usdc.cancellation_digest(authorizer=chain.treasury, nonce=nonce, domain=domain)
    )
    call = usdc.cancellation_call(authorizer=chain.treasury, nonce=nonce, v=word.v, r=word.r, s=word.s)
    chain.do(chain.usdc, call)


def spend_nonce_of(chain: LocalChain, relayer: bytes, *, nonce: int | None = None) -> None:
    """Send a transaction of a relayer's that no row knows."""
    from escrow.signing import keys

    signed = keys.sign_transaction(
        relayer,
        {
            "type": 2,
            "chainId": chain.chain_id,
            "nonce": chain.node.transaction_count(relayer) if nonce is None else nonce,
            "to": addresses.to_text(relayer),
            "value": 0,
            "data": b"",
            "gas": 21_000,
            "maxFeePerGas": 500 * 10**9,
            "maxPriorityFeePerGas": 50 * 10**9,
        },
    )
    chain.node.send(signed.raw)


class Backup:
    """The whole database as it is now, to be put back later as a restore would."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA IF EXISTS backup CASCADE; CREATE SCHEMA backup")
            cursor.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
                " AND NOT relispartition AND relname <> 'django_migrations'"
            )
            self._tables = [name for (name,) in cursor.fetchall()]
            for name in self._tables:
                cursor.execute(f'CREATE TABLE backup."{name}" AS TABLE public."{name}"')

    def restore(self) -> None:
        everything = ", ".join(f'public."{name}"' for name in self._tables)
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(f"TRUNCATE {everything}")
            for name in self._tables:
                columns = self._columns(cursor, name)
                cursor.execute(f'INSERT INTO public."{name}" ({columns}) SELECT {columns} FROM backup."{name}"')
            cursor.execute("SET session_replication_role = DEFAULT; DROP SCHEMA backup CASCADE")

    def _columns(self, cursor: Any, table: str) -> str:
        """All but those that the database computes itself."""
        cursor.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = %s AND is_generated = 'NEVER'",
            [table],
        )
        return ", ".join(f'"{name}"' for (name,) in cursor.fetchall())
