-- What was said and decided stays: append-only rows, and the few columns that may move.

CREATE FUNCTION disputes_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE '% of % is refused: what was said in a case stays', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END $$;

CREATE TRIGGER disputetransition_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disputes_disputetransition
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();
CREATE TRIGGER rulingapproval_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON disputes_rulingapproval
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();
CREATE TRIGGER evidence_stays BEFORE DELETE OR TRUNCATE ON disputes_evidence
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();
CREATE TRIGGER ruling_stays BEFORE DELETE OR TRUNCATE ON disputes_ruling
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();
CREATE TRIGGER dispute_stays BEFORE DELETE OR TRUNCATE ON disputes_dispute
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();

-- Retention may erase the bytes of an item; nothing else about it ever changes.
CREATE FUNCTION disputes_evidence_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before disputes_evidence := OLD;
BEGIN
    before.content := NULL;
    IF NEW.content IS NOT NULL OR NEW IS DISTINCT FROM before THEN
        RAISE 'item % of a case cannot be changed', OLD.number
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER evidence_immutable BEFORE UPDATE ON disputes_evidence
    FOR EACH ROW EXECUTE FUNCTION disputes_evidence_guard();

-- A ruling changes its standing (approved, returned, replaced), never what it says.
CREATE FUNCTION disputes_ruling_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before disputes_ruling := OLD;
BEGIN
    before.standing := NEW.standing;
    IF NEW IS DISTINCT FROM before THEN
        RAISE 'ruling % cannot be changed', OLD.number
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ruling_immutable BEFORE UPDATE ON disputes_ruling
    FOR EACH ROW EXECUTE FUNCTION disputes_ruling_guard();

-- What a case was about, and the rules it began with, stay; a closed case is closed.
CREATE FUNCTION disputes_dispute_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.closed_at IS NOT NULL AND (NEW.state <> OLD.state OR NEW.closed_at IS DISTINCT FROM OLD.closed_at) THEN
        RAISE 'case % is closed', OLD.id
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    IF (NEW.job_id, NEW.client_id, NEW.seller_id, NEW.opener_id, NEW.opened_by, NEW.reason, NEW.price_units,
        NEW.bond_units, NEW.deposit_due_units, NEW.deposit_held_units, NEW.created_at)
       IS DISTINCT FROM
       (OLD.job_id, OLD.client_id, OLD.seller_id, OLD.opener_id, OLD.opened_by, OLD.reason, OLD.price_units,
        OLD.bond_units, OLD.deposit_due_units, OLD.deposit_held_units, OLD.created_at)
       OR (OLD.statement_of_client <> '' AND NEW.statement_of_client <> OLD.statement_of_client)
       OR (OLD.statement_of_seller <> '' AND NEW.statement_of_seller <> OLD.statement_of_seller)
       OR (OLD.requested_by_client_bps IS NOT NULL
           AND NEW.requested_by_client_bps IS DISTINCT FROM OLD.requested_by_client_bps)
       OR (OLD.requested_by_seller_bps IS NOT NULL
           AND NEW.requested_by_seller_bps IS DISTINCT FROM OLD.requested_by_seller_bps)
    THEN
        RAISE 'what case % is about cannot be changed', OLD.id
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER dispute_keeps_its_matter BEFORE UPDATE ON disputes_dispute
    FOR EACH ROW EXECUTE FUNCTION disputes_dispute_guard();
