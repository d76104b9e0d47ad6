-- What is rare in a long log must be found without reading all of it.
CREATE INDEX audit_logs_action ON audit_logs (action, seq);
CREATE INDEX audit_logs_outcome ON audit_logs (outcome, seq);
CREATE INDEX audit_logs_created_at ON audit_logs (created_at, seq);
