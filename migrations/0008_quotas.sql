-- What was granted of each quota, as one packed text a counter (`QuotaCounter` in the model), so
-- that a grant reads and writes one row. A row is worth nothing once `idle_at` has passed, and is
-- deleted then. No reference to a key: a refreshed pair shares the counter of one of them.
CREATE TABLE quota_counters (
    api_key_id TEXT COLLATE "binary" PRIMARY KEY,
    granted TEXT NOT NULL,
    idle_at BIGINT NOT NULL
);
CREATE INDEX quota_counters_by_idle ON quota_counters (idle_at);
