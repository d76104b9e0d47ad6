DROP INDEX audit_logs_created_at;
DROP INDEX audit_logs_outcome;
DROP INDEX audit_logs_action;
