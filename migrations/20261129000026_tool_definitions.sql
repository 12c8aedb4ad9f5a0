-- What each tool said of itself when it was judged: a server that changes a tool afterwards must not change what is allowed.
-- A tool is trusted as it is first seen, by the server's name and address. A change that has to be confirmed waits beside it.
create table tool_definitions (
    server text not null,
    -- SHA-256 over transport and URL or command: another address is another server.
    address text not null,
    tool text not null,
    -- Of the definition in force. JSON as text, which may hold what jsonb refuses.
    hash text not null,
    definition text not null,
    first_seen timestamptz not null,
    -- Who confirmed it; nobody where it was taken as first seen, or needed no confirmation.
    confirmed_by text,
    confirmed_at timestamptz,
    pending_hash text,
    pending_definition text,
    pending_since timestamptz,
    primary key (server, address, tool),
    check ((confirmed_at is null) = (confirmed_by is null)),
    check ((pending_hash is null) = (pending_definition is null) and (pending_hash is null) = (pending_since is null))
);

-- The definition that the call was asked for with; null in rows of programs before this one.
alter table approvals add column definition text;
-- A call whose tool changed after it was asked for ends as changed.
alter table approvals drop constraint approvals_state_check;
alter table approvals add constraint approvals_state_check
    check (state in ('pending', 'approved', 'denied', 'expired', 'running', 'done', 'failed', 'changed'));
