from django.db import migrations

# What nobody has answered or decided yet may take longer, by an outage; never shorter, and nothing else of it changes.
LATER = """
CREATE OR REPLACE FUNCTION disputes_question_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before disputes_question := OLD;
BEGIN
    IF OLD.answered_at IS NULL THEN
        before.answer := NEW.answer;
        before.answered_at := NEW.answered_at;
        {question}
    END IF;
    IF NEW IS DISTINCT FROM before THEN
        RAISE 'question % cannot be changed', OLD.number
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION disputes_appeal_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
        {appeal}
    END IF;
    IF NEW IS DISTINCT FROM before THEN
        RAISE 'an appeal cannot be changed'
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("disputes", "0010_standstills"),
        ("marketplace", "0006_standing_still"),
    ]

    operations = [
        migrations.RunSQL(
            LATER.format(
                question="before.answer_by := greatest(OLD.answer_by, NEW.answer_by);",
                appeal="before.decide_by := greatest(OLD.decide_by, NEW.decide_by);",
            ),
            LATER.format(question="", appeal=""),
        ),
    ]
