-- One row: the installation. `init` fills what is null here. Every management transaction raises
-- `revision` first, which makes the order of commits the order of revisions.
CREATE TABLE installation (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL,
    pruned_revision BIGINT NOT NULL,
    initialized_at BIGINT,
    issuer TEXT,
    api_key_prefix TEXT,
    algorithm TEXT,
    token_lifetime_seconds BIGINT,
    sealed_pepper TEXT
);
INSERT INTO installation (id, revision, pruned_revision) VALUES (1, 0, 0);

-- What each revision touched, for the nodes that follow. Pruned after a day; `pruned_revision` is
-- the highest that is gone, and a node that has not applied it reads everything anew.
CREATE TABLE changes (
    revision BIGINT NOT NULL,
    noun TEXT NOT NULL,
    subject_id TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (revision, noun, subject_id)
);
CREATE INDEX changes_by_moment ON changes (changed_at);
