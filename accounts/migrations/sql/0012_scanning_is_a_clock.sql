-- Without scans the chain falls silent: an incident, in which every clock of jobs and cases stands still.
CREATE OR REPLACE FUNCTION accounts_clock_queue(task text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT queue FROM (VALUES
        ('marketplace.tasks.enforce_deadlines', 'deadlines'),
        ('marketplace.tasks.keep_clock', 'deadlines'),
        ('disputes.tasks.enforce_deadlines', 'deadlines'),
        ('escrow.tasks.advance_withdrawals', 'deadlines'),
        ('escrow.tasks.scan_deposits', 'chain'),
        ('escrow.tasks.authorize_withdrawals', 'treasury'),
        ('escrow.tasks.relay_transactions', 'treasury'),
        ('escrow.tasks.settle_withdrawals', 'treasury'),
        ('accounts.tasks.finish_leaving', 'deadlines'),
        ('accounts.tasks.stop_suspended', 'deadlines')
    ) AS clock (name, queue) WHERE clock.name = task
$$;
