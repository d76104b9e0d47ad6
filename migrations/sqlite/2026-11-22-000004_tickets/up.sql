-- One-use keys to one WebSocket each, made by a credential that a browser cannot send there.
CREATE TABLE tickets (
    hash TEXT PRIMARY KEY NOT NULL,
    path TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_kind TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP NOT NULL
);
CREATE INDEX tickets_expires_at ON tickets (expires_at);
