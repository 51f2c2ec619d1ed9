-- How each API key came to each API: as it is, or by token. Rows are kept with their keys. No reference
-- to either: what was counted is kept, whatever becomes of them.
CREATE TABLE api_uses (
    api_key_id TEXT COLLATE "binary" NOT NULL,
    audience_id TEXT COLLATE "binary" NOT NULL,
    form TEXT COLLATE "binary" NOT NULL,
    organization_id TEXT COLLATE "binary" NOT NULL,
    seen BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    address TEXT,
    user_agent TEXT,
    PRIMARY KEY (api_key_id, audience_id, form)
);
-- who came raw to an API, the last first
CREATE INDEX api_uses_by_audience
    ON api_uses (audience_id, form, last_at, api_key_id, organization_id);

-- Since when each API is heard of without a gap.
CREATE TABLE watched_apis (
    audience_id TEXT COLLATE "binary" PRIMARY KEY,
    since_at BIGINT NOT NULL,
    heard_at BIGINT NOT NULL
);
