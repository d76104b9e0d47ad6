ALTER TABLE users ADD COLUMN last_login_at TIMESTAMP;

-- When a session's user last showed who they are; sensitive actions ask again after a while.
ALTER TABLE sessions ADD COLUMN proved_at TIMESTAMP;

-- The one link by which an account's owner may choose a new password.
CREATE TABLE password_resets (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash TEXT NOT NULL UNIQUE,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);

-- Accounts elsewhere by which an account here may sign in.
CREATE TABLE oidc_identities (
    id TEXT PRIMARY KEY NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    email TEXT,
    created_at TIMESTAMP NOT NULL,
    last_login_at TIMESTAMP,
    UNIQUE (issuer, subject)
);
CREATE INDEX oidc_identities_user_id ON oidc_identities (user_id);

-- Sign-ins under way at the provider; what is secret of them is in the browser only.
CREATE TABLE oidc_attempts (
    state_hash TEXT PRIMARY KEY NOT NULL,
    browser_hash TEXT NOT NULL,
    next TEXT NOT NULL,
    link_session_id TEXT,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX oidc_attempts_expires_at ON oidc_attempts (expires_at);

CREATE TABLE totp_factors (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    seed TEXT NOT NULL,
    confirmed_at TIMESTAMP,
    last_step BIGINT NOT NULL,
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    used_at TIMESTAMP,
    PRIMARY KEY (user_id, hash)
);
