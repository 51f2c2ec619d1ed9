-- How often each outcome came, by the hour (UTC): one row for the API key, and the same counts in
-- one row for its organization, so that nothing is summed over the keys of an organization. No
-- reference to either: what was counted is kept, whatever becomes of the key.
CREATE TABLE usage_hours (
    subject_id TEXT COLLATE "binary" NOT NULL,
    hour_at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (subject_id, hour_at, outcome)
);
-- for pruning, which goes by the hour
CREATE INDEX usage_hours_by_hour ON usage_hours (hour_at, subject_id);

-- The last token of each API key, and the last of any key of each organization.
CREATE TABLE last_uses (
    subject_id TEXT COLLATE "binary" PRIMARY KEY,
    used_at BIGINT NOT NULL,
    address TEXT,
    user_agent TEXT
);

-- A run of a node numbers the parts that it adds, and each part says its number here when it is
-- added: a part whose commit was lost sight of is neither left out nor added twice.
CREATE TABLE usage_writers (
    id TEXT COLLATE "binary" PRIMARY KEY,
    part BIGINT NOT NULL,
    written_at BIGINT NOT NULL
);
