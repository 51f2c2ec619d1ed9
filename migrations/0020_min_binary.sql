-- The newest migration that a program must know, to use the schema as it has become. A version that takes
-- away what an older one uses raises it; until then old and new run side by side.
ALTER TABLE installation ADD COLUMN min_binary BIGINT NOT NULL DEFAULT 0;
