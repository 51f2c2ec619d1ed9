-- When a key got its secret, where that was after it was made, and until when the one before it is
-- accepted: what people are shown. The secrets themselves end by their own moments.
ALTER TABLE api_keys ADD COLUMN rotated_at BIGINT;
ALTER TABLE api_keys ADD COLUMN old_secret_expires_at BIGINT;
