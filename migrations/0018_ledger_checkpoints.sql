-- Where each chain of the ledger was seen to end, told once a minute: on SQLite in another file than
-- the ledger, so that the end of one cannot be cut off without the other.
CREATE TABLE ledger_checkpoints (
    chain BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    value TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);
