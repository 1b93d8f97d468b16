DROP TRIGGER outflow_stays ON escrow_outflow;
DROP TRIGGER outflow_keeps_its_explanation ON escrow_outflow;
DROP FUNCTION outflow_guard();
