DROP TABLE recovery_codes;
DROP TABLE totp_factors;
DROP TABLE oidc_attempts;
DROP TABLE oidc_identities;
DROP TABLE password_resets;
ALTER TABLE sessions DROP COLUMN proved_at;
ALTER TABLE users DROP COLUMN last_login_at;
