-- What a treasurer asks for, another one approves.
CREATE FUNCTION withdrawal_approval_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM escrow_withdrawal w WHERE w.id = NEW.withdrawal_id AND w.asked_by_id = NEW.by_id) THEN
        RAISE 'withdrawal % was asked for by the one who approves it', NEW.withdrawal_id
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER withdrawal_approval_is_anothers AFTER INSERT ON escrow_withdrawalapproval
    FOR EACH ROW EXECUTE FUNCTION withdrawal_approval_guard();
