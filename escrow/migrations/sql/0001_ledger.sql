-- The ledger's only writer, and the guards that hold even for a person with a psql prompt.
--
-- SQLSTATEs of ledger_post, which escrow/ledger.py turns into exceptions:
--   BL001 insufficient funds   detail: {"kind", "owner_key", "short_by"} (micro-USDC)
--   BL002 the reference exists with other moves
--   BL003 the moves do not sum to zero
--   BL004 malformed: fewer than two moves, a zero amount, an account twice, an unknown kind
-- Tables are named with their schema: a temporary table of the same name must not stand in for one.
-- The guards raise 23001 (restrict_violation) or 23514 (check_violation): integrity errors to every driver.

CREATE FUNCTION ledger_post(
    in_reference text, in_kind text, in_kinds text[], in_owner_keys text[], in_amounts bigint[],
    in_actor text, in_memo text, in_at timestamptz,
    OUT transfer_id bigint, OUT replayed boolean
) LANGUAGE plpgsql
-- Any call has the same plan, through the indexes: making it anew would cost more than the call, and one that was
-- made while the tables were empty would read them from end to end.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    many constant integer := coalesce(cardinality(in_amounts), 0);
    written integer;
    short record;
BEGIN
    IF many < 2 OR cardinality(in_kinds) <> many OR cardinality(in_owner_keys) <> many
       OR array_position(in_amounts, NULL) IS NOT NULL OR 0 = ANY (in_amounts)
       OR NOT in_kinds <@ ARRAY['available', 'withdrawing', 'stake', 'hold', 'bond', 'dispute_deposit',
                                'fees', 'penalties', 'suspense', 'shortfall', 'custody'] THEN
        RAISE 'a transfer has at least two moves, of known kinds, none of them zero' USING ERRCODE = 'BL004';
    END IF;
    IF (SELECT sum(amount) FROM unnest(in_amounts) AS amount) <> 0 THEN
        RAISE 'the moves of % do not sum to zero', in_reference USING ERRCODE = 'BL003';
    END IF;

    -- The reference first: whoever repeats a post waits here, holding no account, until the first has ended.
    INSERT INTO public.escrow_transfer AS t (reference, kind, occurred_at, actor, memo, entry_count)
    VALUES (in_reference, in_kind, in_at, in_actor, in_memo, many)
    ON CONFLICT (reference) DO NOTHING
    RETURNING t.id INTO transfer_id;
    replayed := transfer_id IS NULL;
    IF replayed THEN
        transfer_id := ledger_earlier(in_reference, in_kind, in_kinds, in_owner_keys, in_amounts);
        RETURN;
    END IF;

    -- All accounts exist, made in one order, before the first is locked; then locked in one order: no cycles.
    INSERT INTO public.escrow_ledgeraccount (kind, owner_key)
    SELECT m.kind, m.owner_key
    FROM unnest(in_kinds, in_owner_keys) AS m (kind, owner_key)
    WHERE NOT EXISTS (
        SELECT FROM public.escrow_ledgeraccount a WHERE a.kind = m.kind AND a.owner_key = m.owner_key
    )
    ORDER BY m.kind, m.owner_key
    ON CONFLICT (kind, owner_key) DO NOTHING;

    -- MATERIALIZED: pushed into the query that locks, the condition would keep it from locking.
    WITH locked AS MATERIALIZED (
        SELECT a.kind, a.owner_key, a.balance, m.amount, m.place
        FROM unnest(in_kinds, in_owner_keys, in_amounts) WITH ORDINALITY AS m (kind, owner_key, amount, place)
        JOIN public.escrow_ledgeraccount a ON a.kind = m.kind AND a.owner_key = m.owner_key
        ORDER BY a.id
        FOR NO KEY UPDATE OF a
    )
    SELECT locked.kind, locked.owner_key, -(locked.balance + locked.amount) AS short_by INTO short
    FROM locked
    WHERE locked.balance + locked.amount < 0 AND locked.kind NOT IN ('shortfall', 'custody')
    ORDER BY locked.place
    LIMIT 1;
    IF FOUND THEN
        RAISE 'insufficient funds: % of %', short.kind, short.owner_key USING
            ERRCODE = 'BL001',
            DETAIL = json_build_object('kind', short.kind, 'owner_key', short.owner_key, 'short_by', short.short_by);
    END IF;

    WITH moved AS (
        UPDATE public.escrow_ledgeraccount a
        SET balance = a.balance + m.amount, version = a.version + 1
        FROM unnest(in_kinds, in_owner_keys, in_amounts) WITH ORDINALITY AS m (kind, owner_key, amount, place)
        WHERE a.kind = m.kind AND a.owner_key = m.owner_key
        RETURNING a.id, m.amount, a.balance, a.version, m.place
    )
    INSERT INTO public.escrow_entry (transfer_id, account_id, amount, balance_after, account_version)
    SELECT ledger_post.transfer_id, moved.id, moved.amount, moved.balance, moved.version
    FROM moved ORDER BY moved.place;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> many THEN
        RAISE '% names an account twice', in_reference USING ERRCODE = 'BL004';
    END IF;
END $$;


-- The transfer that has this reference already; refuses when it is not the same one.
CREATE FUNCTION ledger_earlier(
    in_reference text, in_kind text, in_kinds text[], in_owner_keys text[], in_amounts bigint[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    earlier public.escrow_transfer;
BEGIN
    SELECT * INTO STRICT earlier FROM public.escrow_transfer WHERE reference = in_reference;
    IF earlier.kind <> in_kind OR earlier.entry_count <> cardinality(in_amounts) OR EXISTS (
        SELECT m.kind, m.owner_key, m.amount
        FROM unnest(in_kinds, in_owner_keys, in_amounts) AS m (kind, owner_key, amount)
        EXCEPT ALL
        SELECT a.kind, a.owner_key, e.amount
        FROM public.escrow_entry e JOIN public.escrow_ledgeraccount a ON a.id = e.account_id
        WHERE e.transfer_id = earlier.id
    ) THEN
        RAISE 'the reference % is taken by other moves', in_reference USING ERRCODE = 'BL002';
    END IF;
    RETURN earlier.id;
END $$;


-- Guard: what was written stays.
CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE '% of % is refused: the ledger is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_transfer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();
CREATE TRIGGER ledgeraccount_stays BEFORE DELETE OR TRUNCATE ON escrow_ledgeraccount
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse();


-- Guard: an account starts empty and changes only together with its entry, one version at a time.
CREATE FUNCTION ledger_account_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.id = OLD.id AND NEW.kind = OLD.kind AND NEW.owner_key = OLD.owner_key
       AND NEW.version = OLD.version + 1 AND EXISTS (
        SELECT FROM public.escrow_entry e
        WHERE e.account_id = NEW.id AND e.account_version = NEW.version
          AND e.amount = NEW.balance - OLD.balance AND e.balance_after = NEW.balance
    ) THEN
        RETURN NULL;
    END IF;
    RAISE 'account % of % changes without its entry', NEW.kind, NEW.owner_key
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER ledgeraccount_starts_empty AFTER INSERT ON escrow_ledgeraccount
    FOR EACH ROW WHEN (NEW.balance <> 0 OR NEW.version <> 0) EXECUTE FUNCTION ledger_account_guard();
CREATE TRIGGER ledgeraccount_follows_entry AFTER UPDATE ON escrow_ledgeraccount
    FOR EACH ROW EXECUTE FUNCTION ledger_account_guard();


-- Guard: at the end of its statement an entry has reached its account, and its transfer was not complete before.
-- With the guard above, balance = sum of entries = last balance_after, at every version.
CREATE FUNCTION ledger_entry_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added e JOIN public.escrow_ledgeraccount a ON a.id = e.account_id WHERE a.version < e.account_version
    ) THEN
        RAISE 'an entry has not reached its account'
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF EXISTS (
        SELECT FROM public.escrow_transfer t
        WHERE t.id IN (SELECT e.transfer_id FROM added e)
          AND t.entry_count < (SELECT count(*) FROM public.escrow_entry e WHERE e.transfer_id = t.id)
    ) THEN
        RAISE 'a complete transfer takes no further entry'
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER entry_is_booked AFTER INSERT ON escrow_entry
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_entry_guard();


-- Guard, at commit: a transfer has all its entries and they sum to zero.
CREATE FUNCTION ledger_transfer_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.entry_count, 0) <> (
        SELECT count(*), coalesce(sum(e.amount), 0) FROM public.escrow_entry e WHERE e.transfer_id = NEW.id
    ) THEN
        RAISE 'the entries of % do not sum to zero', NEW.reference
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER transfer_is_balanced AFTER INSERT ON escrow_transfer
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger_transfer_guard();
