-- Who may do what: spaces, persons and their memberships, roles and where they are bound.
CREATE TABLE spaces (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    suspended_at BIGINT,
    deleted_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL,
    UNIQUE (organization_id, slug)
);
CREATE INDEX spaces_by_organization ON spaces (organization_id, created_revision, id);

-- A person of the installation; what an organization knows of it is its membership.
CREATE TABLE users (
    id TEXT COLLATE "binary" PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    suspended_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL
);

CREATE TABLE memberships (
    user_id TEXT COLLATE "binary" NOT NULL REFERENCES users (id),
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    suspended_at BIGINT,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL,
    PRIMARY KEY (user_id, organization_id)
);
CREATE INDEX memberships_by_organization ON memberships (organization_id, created_revision, user_id);

-- Roles that organizations defined; the built-in ones are no rows.
CREATE TABLE roles (
    id TEXT COLLATE "binary" PRIMARY KEY,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    level TEXT NOT NULL,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_revision BIGINT NOT NULL,
    UNIQUE (organization_id, level, name)
);

-- One role an owner a place: the account (an empty `place_id`), an organization or a space.
-- `role` is the name of a built-in role or the id of a defined one.
CREATE TABLE role_bindings (
    owner_id TEXT COLLATE "binary" NOT NULL,
    place_id TEXT NOT NULL,
    level TEXT NOT NULL,
    organization_id TEXT,
    role TEXT NOT NULL,
    PRIMARY KEY (owner_id, place_id)
);
CREATE INDEX role_bindings_by_place ON role_bindings (place_id, role, owner_id);
CREATE INDEX role_bindings_by_role ON role_bindings (role, owner_id);

ALTER TABLE organizations ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- A catalogue is two lists separated by spaces; both null where the audience has none.
ALTER TABLE audiences ADD COLUMN actions TEXT;
ALTER TABLE audiences ADD COLUMN paths TEXT;
ALTER TABLE audiences ADD COLUMN token_lifetime_seconds BIGINT;
ALTER TABLE audiences ADD COLUMN token_type TEXT NOT NULL DEFAULT 'at+jwt';
ALTER TABLE audiences ADD COLUMN shared_at BIGINT;
CREATE INDEX audiences_by_organization ON audiences (organization_id, created_revision, id);

-- `grants` is empty where a bot holds its roles alone.
ALTER TABLE bots ADD COLUMN space_id TEXT;
ALTER TABLE bots ADD COLUMN deleted_at BIGINT;
CREATE INDEX bots_by_organization ON bots (organization_id, created_revision, id);
CREATE INDEX bots_by_space ON bots (space_id, created_revision, id);
