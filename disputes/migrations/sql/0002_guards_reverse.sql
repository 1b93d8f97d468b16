DROP FUNCTION disputes_refuse() CASCADE;
DROP FUNCTION disputes_evidence_guard() CASCADE;
DROP FUNCTION disputes_ruling_guard() CASCADE;
DROP FUNCTION disputes_dispute_guard() CASCADE;
