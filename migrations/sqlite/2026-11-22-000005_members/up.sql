-- What people other than the owner may do with a container, as bits.
CREATE TABLE container_members (
    container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    permissions INTEGER NOT NULL,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (container_id, user_id)
);
CREATE INDEX container_members_user_id ON container_members (user_id);
