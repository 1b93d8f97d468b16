"""
The books of what comes in and goes out: deposits and withdrawals against the ledger.

Only the rows of the database are asked; what the chain says is reconciliation.py's.
"""

from escrow import books

# Money in `withdrawing` is that of open withdrawals, fee included; a move between addresses of ours holds none.
_WITHDRAWING = """
    SELECT 'withdrawing of ' || coalesce(a.owner_key, w.owner_key), coalesce(w.units, 0), coalesce(a.balance, 0)
    FROM (SELECT owner_key, balance FROM escrow_ledgeraccount WHERE kind = 'withdrawing') a
    FULL JOIN (
        SELECT coalesce(agent_id::text, 'platform') AS owner_key, sum(amount_units + fee_units) AS units
        FROM escrow_withdrawal
        WHERE owner <> 'internal' AND state IN ('requested', 'held', 'cooling', 'authorized', 'broadcast', 'lapsed')
        GROUP BY 1
    ) w ON w.owner_key = a.owner_key
    WHERE coalesce(w.units, 0) <> coalesce(a.balance, 0)
"""
# A withdrawal is open, paid, recognised as paid in a forgotten past, or given back: never two of them.
# A move between addresses of ours posts nothing at all.
_ENDS = """
    WITH ends AS (
        SELECT w.id, w.state,
               CASE WHEN w.owner = 'internal' THEN ''
                    WHEN w.state = 'settled' THEN 'settle'
                    WHEN w.state = 'recognised' THEN 'recognise'
                    WHEN w.state IN ('refunded', 'cancelled', 'rejected') THEN 'refund' ELSE '' END AS expected,
               coalesce(string_agg(
                   CASE WHEN t.reference LIKE 'recognised:%%' THEN 'recognise' ELSE split_part(t.reference, ':', 3) END,
                   '+' ORDER BY t.reference), '') AS found
        FROM escrow_withdrawal w
        LEFT JOIN escrow_outflow o ON o.withdrawal_id = w.id AND o.orphaned_at IS NULL
        LEFT JOIN escrow_transfer t
            ON t.reference IN ('withdrawal:' || w.id || ':settle', 'withdrawal:' || w.id || ':refund',
                               'recognised:' || o.chain_id || ':' || encode(o.tx_hash, 'hex') || ':' || o.log_index)
        GROUP BY w.id
    )
    SELECT 'withdrawal ' || id || ' (' || state || ')', expected, found FROM ends WHERE expected <> found
"""
# Each generation of a deposit was credited, and taken back unless it is the one that stands.
_DEPOSITS = """
    SELECT 'deposit ' || d.id || ' (' || d.state || ')',
           d.generation || ' credits, ' || d.generation - (d.posted_to <> '')::int || ' reversals',
           count(t.id) FILTER (WHERE split_part(t.reference, ':', 3) = 'credit') || ' credits, '
           || count(t.id) FILTER (WHERE split_part(t.reference, ':', 3) = 'reverse') || ' reversals'
    FROM escrow_deposit d LEFT JOIN escrow_transfer t
        ON t.reference IN (
            SELECT 'deposit:' || d.id || what || n
            FROM generate_series(1, d.generation) AS n, (VALUES (':credit:'), (':reverse:')) AS v (what)
        )
    GROUP BY d.id
    HAVING count(t.id) FILTER (WHERE split_part(t.reference, ':', 3) = 'credit') <> d.generation
        OR count(t.id) FILTER (WHERE split_part(t.reference, ':', 3) = 'reverse')
           <> d.generation - (d.posted_to <> '')::int
"""

books.register("withdrawing is what open withdrawals hold", _WITHDRAWING, recent=_WITHDRAWING)
books.register("each withdrawal is open, paid, or given back", _ENDS)
books.register("each deposit is posted once a generation", _DEPOSITS)
