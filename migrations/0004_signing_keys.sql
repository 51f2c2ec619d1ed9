-- The state of a signing key is computed from its moments. `sealed_private` is wrapped by the
-- master key, which is not in the database.
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    sealed_private TEXT NOT NULL,
    published_at BIGINT NOT NULL,
    signing_at BIGINT,
    retiring_at BIGINT,
    retired_at BIGINT,
    created_revision BIGINT NOT NULL
);
