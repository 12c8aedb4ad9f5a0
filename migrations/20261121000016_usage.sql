-- What models used and cost: one row for each request to a model, kept whatever becomes of what it was for.
create table usage (
    id uuid primary key,
    at timestamptz not null,
    kind text not null check (kind in ('investigation', 'answer', 'summary', 'embedding')),
    caller text not null,
    report_id uuid,
    conversation_id uuid,
    turn_id uuid,
    model text not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cached_tokens bigint not null,
    -- Counted here, because the provider did not say.
    estimated boolean not null,
    -- Billionths of the configured currency; absent without a price.
    cost bigint,
    -- While the request runs: what is kept free for its answer, and until when at the latest.
    held_tokens bigint not null default 0,
    held_cost bigint not null default 0,
    held_until timestamptz
);
create index usage_by_time on usage (at);
create index usage_by_report on usage (report_id) where report_id is not null;
create index usage_by_conversation on usage (conversation_id) where conversation_id is not null;
create index usage_held on usage (held_until) where held_until is not null;

-- Its sums, with what is kept free, by what limits are set on: each request adds to its rows before it is sent, so that requests
-- at the same time see each other.
create table spent (
    scope text not null check (scope in ('all', 'caller', 'conversation', 'report')),
    name text not null,
    -- UTC; `-infinity` for what has no day.
    day date not null,
    tokens bigint not null,
    cost bigint not null,
    primary key (scope, name, day)
);
