-- What an audience does with API keys that are sent to it as they are, instead of a token; nothing
-- where it takes them.
ALTER TABLE audiences ADD COLUMN raw_keys TEXT;
