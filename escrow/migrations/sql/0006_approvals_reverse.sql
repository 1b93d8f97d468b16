DROP TRIGGER withdrawal_approval_is_anothers ON escrow_withdrawalapproval;
DROP FUNCTION withdrawal_approval_guard();
