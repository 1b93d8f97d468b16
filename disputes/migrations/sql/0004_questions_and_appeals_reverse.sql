DROP TRIGGER question_stays ON disputes_question;
DROP TRIGGER appeal_stays ON disputes_appeal;
DROP FUNCTION disputes_question_guard() CASCADE;
DROP FUNCTION disputes_appeal_guard() CASCADE;
