-- A question and its answer, an appeal and its outcome: written once each.

CREATE FUNCTION disputes_question_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before disputes_question := OLD;
BEGIN
    IF OLD.answered_at IS NULL THEN
        before.answer := NEW.answer;
        before.answered_at := NEW.answered_at;
    END IF;
    IF NEW IS DISTINCT FROM before THEN
        RAISE 'question % cannot be changed', OLD.number
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER question_immutable BEFORE UPDATE ON disputes_question
    FOR EACH ROW EXECUTE FUNCTION disputes_question_guard();
CREATE TRIGGER question_stays BEFORE DELETE OR TRUNCATE ON disputes_question
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();

CREATE FUNCTION disputes_appeal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before disputes_appeal := OLD;
BEGIN
    IF OLD.outcome IS NULL THEN
        before.outcome := NEW.outcome;
        before.decided_at := NEW.decided_at;
        before.decided_by_id := NEW.decided_by_id;
        before.deposit_went := NEW.deposit_went;
        before.reasons := NEW.reasons;
        before.private_notes := NEW.private_notes;
    END IF;
    IF NEW IS DISTINCT FROM before THEN
        RAISE 'an appeal cannot be changed'
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER appeal_immutable BEFORE UPDATE ON disputes_appeal
    FOR EACH ROW EXECUTE FUNCTION disputes_appeal_guard();
CREATE TRIGGER appeal_stays BEFORE DELETE OR TRUNCATE ON disputes_appeal
    FOR EACH STATEMENT EXECUTE FUNCTION disputes_refuse();
