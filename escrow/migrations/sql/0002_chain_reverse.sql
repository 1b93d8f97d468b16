DROP FUNCTION chain_refuse() CASCADE;
DROP FUNCTION withdrawal_guard() CASCADE;
DROP FUNCTION authorization_guard() CASCADE;
DROP FUNCTION relay_guard() CASCADE;
