-- Who did what. Ids sort by time, so they are the order of the list. `organization_id` is empty where
-- the installation itself was changed.
CREATE TABLE audit (
    id TEXT COLLATE "binary" PRIMARY KEY,
    at BIGINT NOT NULL,
    organization_id TEXT NOT NULL,
    actor_id TEXT,
    api_key_id TEXT,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    outcome TEXT NOT NULL,
    address TEXT,
    user_agent TEXT,
    request_id TEXT NOT NULL,
    state_before TEXT,
    state_after TEXT
);
CREATE INDEX audit_by_organization ON audit (organization_id, id);
CREATE INDEX audit_by_object ON audit (organization_id, object, id);
CREATE INDEX audit_by_actor ON audit (organization_id, actor_id, id);

-- What a repeated request answers: the object that the first one made. Kept for a day.
CREATE TABLE idempotency_keys (
    api_key_id TEXT NOT NULL,
    route TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    object_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (api_key_id, route, idempotency_key)
);
CREATE INDEX idempotency_keys_by_moment ON idempotency_keys (created_at);
