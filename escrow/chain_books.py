"""
The books of what comes in and goes out: deposits and withdrawals against the ledger.

Only the rows of the database are asked; what the chain says is reconciliation.py's.
"""

from escrow import books

# Money in `withdrawing` is that of the agent's open withdrawals, fee included.
_WITHDRAWING = """
    SELECT 'withdrawing of ' || coalesce(a.owner_key, w.agent), coalesce(w.units, 0), coalesce(a.balance, 0)
    FROM (SELECT owner_key, balance FROM escrow_ledgeraccount WHERE kind = 'withdrawing') a
    FULL JOIN (
        SELECT agent_id::text AS agent, sum(amount_units + fee_units) AS units FROM escrow_withdrawal
        WHERE owner = 'agent' AND state IN ('requested', 'held', 'cooling', 'authorized', 'broadcast', 'lapsed')
        GROUP BY agent_id
    ) w ON w.agent = a.owner_key
    WHERE coalesce(w.units, 0) <> coalesce(a.balance, 0)
"""
# A withdrawal is open, paid, or given back: never two of them.
_ENDS = """
    SELECT 'withdrawal ' || w.id || ' (' || w.state || ')',
           CASE WHEN w.state = 'settled' THEN 'settle'
                WHEN w.state IN ('refunded', 'cancelled', 'rejected') THEN 'refund' ELSE '' END,
           coalesce(string_agg(split_part(t.reference, ':', 3), '+' ORDER BY t.reference), '')
    FROM escrow_withdrawal w LEFT JOIN escrow_transfer t
        ON t.reference IN ('withdrawal:' || w.id || ':settle', 'withdrawal:' || w.id || ':refund')
    WHERE w.owner = 'agent' AND w.state <> 'recognised'
    GROUP BY w.id
    HAVING coalesce(string_agg(split_part(t.reference, ':', 3), '+' ORDER BY t.reference), '') <>
           CASE WHEN w.state = 'settled' THEN 'settle'
                WHEN w.state IN ('refunded', 'cancelled', 'rejected') THEN 'refund' ELSE '' END
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
