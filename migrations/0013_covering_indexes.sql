-- A start reads the secrets of all API keys and the roles of all their owners in the order of their
-- ids: out of an index alone, and not a page of the table for each of them.
CREATE INDEX api_key_secrets_of_api_key
    ON api_key_secrets (api_key_id, created_at, digest, expires_at);
DROP INDEX api_key_secrets_by_api_key;
CREATE INDEX role_bindings_of_owner
    ON role_bindings (owner_id, level, role, place_id, organization_id);
