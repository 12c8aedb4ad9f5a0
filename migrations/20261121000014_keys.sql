-- Who may call: API keys, people who are logged in, and logins under way. Keys and cookies are kept as hashes.

create table api_keys (
    id uuid primary key,
    name text not null unique,
    hash bytea not null unique,
    role text not null,
    -- Namespaces it is bound to; all when null.
    namespaces text[],
    created_by text not null,
    created_at timestamptz not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);

create table sessions (
    hash bytea primary key,
    caller text not null,
    role text not null,
    way text not null,
    -- The key somebody logged in with: what the key may do counts, as long as it may.
    key_id uuid references api_keys on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index sessions_by_end on sessions (expires_at);

-- People who were sent to the issuer and have not come back.
create table logins (
    hash bytea primary key,
    nonce text not null,
    verifier text not null,
    next text not null,
    expires_at timestamptz not null
);
create index logins_by_end on logins (expires_at);
