-- The whole life of an API key. `allowed` and `blocked` are lists of addresses separated by spaces.
-- `void_below` is the revision below which tokens of the key are void.
ALTER TABLE api_keys ADD COLUMN key_type TEXT NOT NULL DEFAULT 'service';
ALTER TABLE api_keys ADD COLUMN space_id TEXT;
ALTER TABLE api_keys ADD COLUMN name_lower TEXT COLLATE "binary" NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN prefix TEXT;
ALTER TABLE api_keys ADD COLUMN allowed TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN blocked TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN quota_limit BIGINT;
ALTER TABLE api_keys ADD COLUMN quota_window BIGINT;
ALTER TABLE api_keys ADD COLUMN quota_counter TEXT;
ALTER TABLE api_keys ADD COLUMN lifetime BIGINT;
ALTER TABLE api_keys ADD COLUMN replaces_id TEXT;
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
ALTER TABLE api_keys ADD COLUMN void_below BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN deleted_at BIGINT;
UPDATE api_keys SET name_lower = lower(name);
UPDATE api_keys SET lifetime = expires_at - created_at WHERE expires_at IS NOT NULL;

-- One for each filter that a list can lead with; each ends in the order of the list.
CREATE INDEX api_keys_by_organization ON api_keys (organization_id, created_revision, id);
CREATE INDEX api_keys_by_owner ON api_keys (organization_id, owner_id, created_revision, id);
CREATE INDEX api_keys_by_space ON api_keys (space_id, created_revision, id);
CREATE INDEX api_keys_by_type ON api_keys (organization_id, key_type, created_revision, id);
CREATE INDEX api_keys_by_name ON api_keys (organization_id, name_lower, created_revision, id);
-- one successor a key
CREATE UNIQUE INDEX api_keys_by_replaced ON api_keys (replaces_id) WHERE replaces_id IS NOT NULL;
DROP INDEX api_keys_by_creation;
