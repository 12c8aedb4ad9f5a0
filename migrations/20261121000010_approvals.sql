-- Calls that change something wait here until a person allows them: an answer ends meanwhile, so nothing waits in memory.
create table approvals (
    id uuid primary key,
    conversation_id uuid not null references conversations (id) on delete cascade,
    -- The turn that asked.
    turn_id uuid not null references turns (id) on delete cascade,
    server text not null,
    -- As the model knows the tool, and as its server does.
    tool text not null,
    server_tool text not null,
    arguments jsonb not null,
    -- Over server, tool and arguments with their keys in order; what is sent has to have the hash of what was shown.
    hash text not null,
    state text not null default 'pending'
        check (state in ('pending', 'approved', 'denied', 'expired', 'running', 'done', 'failed')),
    asked_at timestamptz not null,
    expires_at timestamptz not null,
    decided_at timestamptz,
    decided_by text,
    note text,
    -- The turn that carries it out, or tells that it was denied. Without one the decision is still to be acted on.
    told_in uuid references turns (id) on delete cascade,
    -- What came of it: the label of the result among the conversation's evidence, or what went wrong.
    evidence text,
    error text,
    check ((decided_at is null) = (decided_by is null)),
    check (state not in ('approved', 'denied', 'running', 'done', 'failed') or decided_at is not null)
);
-- The same call is asked for once at a time.
create unique index approvals_once on approvals (conversation_id, hash) where state in ('pending', 'approved');
create index approvals_by_conversation on approvals (conversation_id, id);
create index approvals_by_turn on approvals (turn_id);
create index approvals_by_telling on approvals (told_in) where told_in is not null;
create index approvals_pending on approvals (expires_at) where state = 'pending';
-- Those that somebody has to act on.
create index approvals_open on approvals (conversation_id)
    where state in ('approved', 'running') or (told_in is null and state in ('denied', 'failed'));
