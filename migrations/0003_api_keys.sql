-- `scopes` is null where the key has all that its owner has; `audiences` holds ids, separated by
-- spaces, the first one first.
CREATE TABLE api_keys (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    owner_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    scopes TEXT,
    audiences TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL
);
CREATE INDEX api_keys_by_creation ON api_keys (created_revision, id);

-- Digests only, each unique for ever. A key has one secret, or two in a grace period.
CREATE TABLE api_key_secrets (
    digest TEXT PRIMARY KEY,
    api_key_id TEXT COLLATE "binary" NOT NULL REFERENCES api_keys (id),
    expires_at BIGINT,
    created_at BIGINT NOT NULL
);
CREATE INDEX api_key_secrets_by_api_key ON api_key_secrets (api_key_id);
