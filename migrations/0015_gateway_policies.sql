-- Under which rules gateways let requests through to an API. Nodes hold all of them in memory.
CREATE TABLE gateway_policies (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    audience_id TEXT NOT NULL REFERENCES audiences (id),
    rules TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL,
    UNIQUE (organization_id, name)
);
CREATE INDEX gateway_policies_by_organization
    ON gateway_policies (organization_id, created_revision, id);
