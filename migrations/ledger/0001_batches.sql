-- One row a run of a node; the head where the run before it in the same data directory had ended.
CREATE TABLE ledger_chains (
    chain BIGINT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    previous_chain BIGINT,
    previous_number BIGINT,
    previous_value TEXT
);

-- The body comes last: a search reads the filters of many rows, and the bodies of few.
CREATE TABLE ledger_batches (
    chain BIGINT NOT NULL,
    number BIGINT NOT NULL,
    facts BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    value BYTEA NOT NULL,
    filter BYTEA NOT NULL,
    body BYTEA NOT NULL,
    PRIMARY KEY (chain, number)
);

CREATE INDEX ledger_batches_by_time ON ledger_batches (last_at, chain, number, first_at);

-- What grew old: all batches of a chain up to a number, sealed like a batch.
CREATE TABLE ledger_prunings (
    chain BIGINT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL,
    value TEXT NOT NULL,
    facts BIGINT NOT NULL,
    pruned_at BIGINT NOT NULL,
    seal TEXT NOT NULL
);
