-- What was revoked, as long as a token of before may live: one row a subject, which is an API key, an
-- owner, a space, an organization, or a single token by its `jti`. Tokens of the subject with a
-- revision lower than `below` are void, and where it is null, all of them.
CREATE TABLE revocations (
    subject_id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT,
    -- of a single token: the key it was issued to
    api_key_id TEXT,
    below BIGINT,
    revision BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL
);
CREATE INDEX revocations_by_revision ON revocations (revision);
CREATE INDEX revocations_by_organization ON revocations (organization_id, subject_id);
CREATE INDEX revocations_by_api_key ON revocations (api_key_id, subject_id);
CREATE INDEX revocations_by_time ON revocations (recorded_at);

-- Another text after the database went back in time: revisions of two epochs do not compare.
ALTER TABLE installation ADD COLUMN feed_epoch TEXT NOT NULL DEFAULT '1';

-- That is told by `revocations` now, of every kind of subject.
ALTER TABLE api_keys DROP COLUMN void_below;
