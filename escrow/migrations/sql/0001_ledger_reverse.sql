DROP TRIGGER transfer_is_balanced ON escrow_transfer;
DROP TRIGGER entry_is_booked ON escrow_entry;
DROP TRIGGER ledgeraccount_follows_entry ON escrow_ledgeraccount;
DROP TRIGGER ledgeraccount_starts_empty ON escrow_ledgeraccount;
DROP TRIGGER ledgeraccount_stays ON escrow_ledgeraccount;
DROP TRIGGER entry_append_only ON escrow_entry;
DROP TRIGGER transfer_append_only ON escrow_transfer;
DROP FUNCTION ledger_transfer_guard, ledger_entry_guard, ledger_account_guard, ledger_refuse, ledger_post, ledger_earlier;
