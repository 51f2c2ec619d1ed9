-- Signing keys take turns: `wanted_at` is when a rotation to a published key was asked for. One that
-- was withdrawn is told in the feed for ever, under the revision of that.
ALTER TABLE signing_keys ADD COLUMN wanted_at BIGINT;
ALTER TABLE signing_keys ADD COLUMN withdrawn_at BIGINT;
ALTER TABLE signing_keys ADD COLUMN withdrawn_revision BIGINT;

-- The nodes that serve, and the revision that each has applied: a key signs when all of them have
-- published it.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    applied_revision BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
