CREATE TABLE organizations (
    id TEXT COLLATE "binary" PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    default_audience_id TEXT,
    bootstrapped_at BIGINT,
    suspended_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL
);

-- A URI is one audience's for ever, in the whole installation.
CREATE TABLE audiences (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    slug TEXT NOT NULL,
    uri TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL,
    UNIQUE (organization_id, slug)
);

CREATE TABLE bots (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    grants TEXT NOT NULL,
    suspended_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL
);
