-- What may be edited of a periodic task is its interval, within bounds, and whether it rings. No row of the schedule
-- runs anything that the code does not name, or with arguments; and the clocks of jobs, disputes and payouts go on.

-- The queue of a task that is such a clock; null: it is none.
CREATE FUNCTION accounts_clock_queue(task text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT queue FROM (VALUES
        ('marketplace.tasks.enforce_deadlines', 'deadlines'),
        ('marketplace.tasks.keep_clock', 'deadlines'),
        ('disputes.tasks.enforce_deadlines', 'deadlines'),
        ('escrow.tasks.advance_withdrawals', 'deadlines'),
        ('escrow.tasks.authorize_withdrawals', 'treasury'),
        ('escrow.tasks.relay_transactions', 'treasury'),
        ('escrow.tasks.settle_withdrawals', 'treasury'),
        ('accounts.tasks.finish_leaving', 'deadlines'),
        ('accounts.tasks.stop_suspended', 'deadlines')
    ) AS clock (name, queue) WHERE clock.name = task
$$;

CREATE FUNCTION accounts_guard_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    known accounts_knowntask;
    clock_queue text;
    seconds bigint;
    wrong text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.name = OLD.task AND accounts_clock_queue(OLD.task) IS NOT NULL THEN
            RAISE EXCEPTION 'schedule: % is a clock, which is never removed', OLD.task USING ERRCODE = 'check_violation';
        END IF;
        RETURN OLD;
    END IF;
    -- that it rang says nothing new
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - '{last_run_at,total_run_count,date_changed}'::text[]
        = to_jsonb(OLD) - '{last_run_at,total_run_count,date_changed}'::text[]
    THEN
        RETURN NEW;
    END IF;
    SELECT * INTO known FROM accounts_knowntask WHERE task = NEW.task;
    clock_queue := accounts_clock_queue(NEW.task);
    SELECT every * CASE period WHEN 'seconds' THEN 1 WHEN 'minutes' THEN 60 WHEN 'hours' THEN 3600
                               WHEN 'days' THEN 86400 END
        INTO seconds FROM django_celery_beat_intervalschedule WHERE id = NEW.interval_id;
    wrong := CASE
        WHEN known IS NULL THEN 'is no task that the code knows'
        WHEN NEW.name <> NEW.task THEN 'is scheduled once, under its own name'
        WHEN TG_OP = 'UPDATE' AND NEW.task <> OLD.task THEN 'takes no other task''s place'
        WHEN NEW.crontab_id IS NOT NULL OR NEW.solar_id IS NOT NULL OR NEW.clocked_id IS NOT NULL OR seconds IS NULL
            THEN 'rings by an interval of whole seconds'
        WHEN seconds < 1 OR seconds > least(known.slowest_seconds, CASE WHEN clock_queue IS NOT NULL THEN 60 END)
            THEN format('rings every 1 to %s seconds',
                        least(known.slowest_seconds, CASE WHEN clock_queue IS NOT NULL THEN 60 END))
        WHEN NEW.args <> '[]' OR NEW.kwargs <> '{}' OR NEW.headers <> '{}' THEN 'takes no arguments'
        WHEN NEW.queue IS DISTINCT FROM coalesce(clock_queue, known.queue) OR NEW.exchange IS NOT NULL
            OR NEW.routing_key IS NOT NULL OR NEW.priority IS NOT NULL THEN 'rings in its own queue'
        WHEN NEW.one_off OR NEW.expires IS NOT NULL OR NEW.start_time IS NOT NULL THEN 'has no first and no last day'
        WHEN NEW.expire_seconds < 30 THEN 'is heard for 30 seconds at least'
        WHEN clock_queue IS NOT NULL AND NOT NEW.enabled THEN 'is a clock, which is never switched off'
    END;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'schedule: % %', NEW.task, wrong USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER schedule_is_guarded BEFORE INSERT OR UPDATE OR DELETE ON django_celery_beat_periodictask
    FOR EACH ROW EXECUTE FUNCTION accounts_guard_schedule();

-- An interval is shared by tasks: whoever wants another makes another.
CREATE FUNCTION accounts_refuse_schedule_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'schedule: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER interval_stays_as_it_is BEFORE UPDATE ON django_celery_beat_intervalschedule
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_schedule_change();
CREATE TRIGGER schedule_is_not_emptied BEFORE TRUNCATE ON django_celery_beat_periodictask
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_refuse_schedule_change();
