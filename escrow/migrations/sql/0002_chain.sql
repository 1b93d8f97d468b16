-- Guards of the rows that stand for money on the chain. They raise integrity errors (23001, 23514) to every driver.

CREATE FUNCTION chain_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE '% of % is refused: it is written once', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

-- What the treasury signs, who it is, and who agreed: written once.
CREATE TRIGGER authorization_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_authorization
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER treasury_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_treasury
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER withdrawalapproval_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_withdrawalapproval
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();

-- Rows that stay.
CREATE TRIGGER withdrawal_stays BEFORE DELETE OR TRUNCATE ON escrow_withdrawal
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER deposit_stays BEFORE DELETE OR TRUNCATE ON escrow_deposit
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER depositaddress_written_once BEFORE UPDATE OR DELETE OR TRUNCATE ON escrow_depositaddress
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER relayer_stays BEFORE DELETE OR TRUNCATE ON escrow_relayer
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER relaytransaction_stays BEFORE DELETE OR TRUNCATE ON escrow_relaytransaction
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();
CREATE TRIGGER relayattempt_stays BEFORE DELETE OR TRUNCATE ON escrow_relayattempt
    FOR EACH STATEMENT EXECUTE FUNCTION chain_refuse();


-- A withdrawal keeps its owner, amount, fee and destination, and an ended one its end.
CREATE FUNCTION withdrawal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.owner, NEW.chain_id, NEW.amount_units, NEW.fee_units, NEW.address, NEW.requested_at)
       IS DISTINCT FROM
       (OLD.id, OLD.owner, OLD.chain_id, OLD.amount_units, OLD.fee_units, OLD.address, OLD.requested_at)
       OR NEW.agent_id IS DISTINCT FROM OLD.agent_id OR NEW.returns_id IS DISTINCT FROM OLD.returns_id THEN
        RAISE 'withdrawal % keeps its owner, amount and destination', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.state <> OLD.state AND OLD.state IN ('settled', 'refunded', 'cancelled', 'rejected', 'recognised') THEN
        RAISE 'withdrawal % has ended as %', OLD.id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF NEW.state IN ('cancelled', 'rejected') AND NEW.state <> OLD.state
       AND EXISTS (SELECT FROM escrow_authorization a WHERE a.withdrawal_id = NEW.id) THEN
        RAISE 'withdrawal % is authorized: only the chain can end it', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER withdrawal_keeps_its_word AFTER UPDATE ON escrow_withdrawal
    FOR EACH ROW EXECUTE FUNCTION withdrawal_guard();


-- An authorization says what its withdrawal says.
CREATE FUNCTION authorization_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM escrow_withdrawal w
        WHERE w.id = NEW.withdrawal_id AND w.chain_id = NEW.chain_id AND w.address = NEW.receiver
          AND w.amount_units = NEW.value_units AND w.state = 'authorized'
    ) THEN
        RAISE 'authorization of % is not what was asked for', NEW.withdrawal_id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER authorization_is_as_asked AFTER INSERT ON escrow_authorization
    FOR EACH ROW EXECUTE FUNCTION authorization_guard();


-- A signed transaction keeps its bytes, a relayed nonce its relayer; nonces are handed out upwards, one by one.
CREATE FUNCTION relay_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'escrow_relayattempt' THEN
        IF (NEW.relay_id, NEW.number, NEW.raw, NEW.tx_hash) IS DISTINCT FROM (OLD.relay_id, OLD.number, OLD.raw, OLD.tx_hash) THEN
            RAISE 'a signed transaction keeps its bytes'
                USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
        END IF;
    ELSIF TG_TABLE_NAME = 'escrow_relayer' THEN
        IF NEW.address <> OLD.address OR NEW.chain_id <> OLD.chain_id OR NEW.next_nonce < OLD.next_nonce THEN
            RAISE 'nonces of a relayer only go up'
                USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
        END IF;
    ELSIF (NEW.relayer_id, NEW.nonce, NEW.purpose, NEW."to", NEW.data)
          IS DISTINCT FROM (OLD.relayer_id, OLD.nonce, OLD.purpose, OLD."to", OLD.data)
          OR NEW.withdrawal_id IS DISTINCT FROM OLD.withdrawal_id
          OR (OLD.closed_at IS NOT NULL AND NEW.state <> OLD.state) THEN
        RAISE 'a nonce keeps what it is for'
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER relayattempt_keeps_its_bytes AFTER UPDATE ON escrow_relayattempt
    FOR EACH ROW EXECUTE FUNCTION relay_guard();
CREATE TRIGGER relayer_nonces_go_up AFTER UPDATE ON escrow_relayer
    FOR EACH ROW EXECUTE FUNCTION relay_guard();
CREATE TRIGGER relaytransaction_keeps_its_purpose AFTER UPDATE ON escrow_relaytransaction
    FOR EACH ROW EXECUTE FUNCTION relay_guard();
