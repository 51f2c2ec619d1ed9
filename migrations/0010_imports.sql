-- The rows of an all-or-nothing import carry its id and are seen by nobody while it has a row here.
-- It goes live by losing that row. One that is not renewed any more has died, and is cleaned up;
-- `renewed_at` is 0 where it was given up.
CREATE TABLE staged_imports (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    first_revision BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL
);
ALTER TABLE api_keys ADD COLUMN import_id TEXT;
ALTER TABLE bots ADD COLUMN import_id TEXT;
