-- Guards of what left our addresses, and of what treasurers ask for.

CREATE TRIGGER outflow_stays BEFORE DELETE OR TRUNCATE ON escrow_outflow
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();

-- What an outflow was said to be stays said, unless a reorg took its block away.
CREATE FUNCTION outflow_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.explanation <> '' AND OLD.orphaned_at IS NULL AND NEW.orphaned_at IS NULL
       AND (NEW.chain_id, NEW.tx_hash, NEW.log_index, NEW.sender, NEW.receiver, NEW.amount_units, NEW.explanation)
           IS DISTINCT FROM
           (OLD.chain_id, OLD.tx_hash, OLD.log_index, OLD.sender, OLD.receiver, OLD.amount_units, OLD.explanation)
       OR (OLD.explanation <> '' AND OLD.orphaned_at IS NULL AND NEW.orphaned_at IS NULL
           AND NEW.withdrawal_id IS DISTINCT FROM OLD.withdrawal_id) THEN
        RAISE 'outflow % is explained already', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER outflow_keeps_its_explanation AFTER UPDATE ON escrow_outflow
    FOR EACH ROW EXECUTE FUNCTION outflow_guard();


-- A withdrawal keeps its owner, amount, fee and destination, who asked for it and where it leaves; an ended one its end.
CREATE OR REPLACE FUNCTION withdrawal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.owner, NEW.chain_id, NEW.amount_units, NEW.fee_units, NEW.address, NEW.requested_at)
       IS DISTINCT FROM
       (OLD.id, OLD.owner, OLD.chain_id, OLD.amount_units, OLD.fee_units, OLD.address, OLD.requested_at)
       OR NEW.agent_id IS DISTINCT FROM OLD.agent_id OR NEW.returns_id IS DISTINCT FROM OLD.returns_id
       OR NEW.source IS DISTINCT FROM OLD.source OR NEW.asked_by_id IS DISTINCT FROM OLD.asked_by_id THEN
        RAISE 'withdrawal % keeps its owner, amount and destination', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.state <> OLD.state AND OLD.state IN ('settled', 'refunded', 'cancelled', 'rejected', 'recognised') THEN
        RAISE 'withdrawal % has ended as %', OLD.id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.state IN ('cancelled', 'rejected', 'recognised') AND NEW.state <> OLD.state
       AND EXISTS (SELECT FROM escrow_authorization a WHERE a.withdrawal_id = NEW.id) THEN
        RAISE 'withdrawal % is authorized: only the chain can end it', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;
