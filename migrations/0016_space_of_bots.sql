-- The key of a bot that belongs to a space is a key of that space, and stops with it.
UPDATE api_keys SET space_id = (SELECT space_id FROM bots WHERE bots.id = owner_id)
WHERE space_id IS NULL
AND owner_id IN (SELECT id FROM bots WHERE space_id IS NOT NULL);
UPDATE bots SET deleted_at = (SELECT deleted_at FROM spaces WHERE spaces.id = space_id)
WHERE deleted_at IS NULL
AND space_id IN (SELECT id FROM spaces WHERE deleted_at IS NOT NULL);
UPDATE api_keys SET revoked_at = (SELECT deleted_at FROM spaces WHERE spaces.id = space_id)
WHERE revoked_at IS NULL
AND space_id IN (SELECT id FROM spaces WHERE deleted_at IS NOT NULL);
