-- A node that starts reads these tables in the order in which they lie.
CREATE INDEX api_keys_by_creation ON api_keys (created_revision, id);
CREATE INDEX bots_by_creation ON bots (created_revision, id);
