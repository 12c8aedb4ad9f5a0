-- Chat: turns of a conversation, what happened in each, and the agents that answer.

-- Who answers: a prompt, a choice of tools and limits. The shipped ones are written anew at each start.
create table agents (
    id uuid primary key,
    name text not null unique,
    description text not null,
    -- A template of the program, or a text; exactly one.
    prompt_file text,
    prompt_text text,
    -- Overrides of the configured model.
    model text,
    temperature real,
    max_output_tokens integer,
    -- Tools it may call, as globs over their names; without any, all that its access allows.
    tools text[] not null default '{}',
    turns integer,
    total_tokens bigint,
    built_in boolean not null default false,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    check ((prompt_file is null) <> (prompt_text is null))
);

alter table conversations
    add column agent_id uuid references agents (id) on delete set null,
    -- What was said in the messages before `summarised`, in short.
    add column summary text,
    add column summarised integer not null default 0,
    -- A hash of the history, by which a client that keeps its own is recognised.
    add column thread text;
create index conversations_by_thread on conversations (thread) where thread is not null;
create index conversations_by_time on conversations (updated_at desc, id desc);

-- One answer being made, or made.
create table turns (
    id uuid primary key,
    conversation_id uuid not null references conversations (id) on delete cascade,
    state text not null default 'running' check (state in ('running', 'done', 'failed', 'cancelled')),
    -- The process that answers renews it; when it is over, nobody answers any more.
    lease_until timestamptz not null,
    started_at timestamptz not null,
    finished_at timestamptz
);
create unique index turns_one_running on turns (conversation_id) where state = 'running';

-- What a reader that lost its connection reads again, some events a row.
create table turn_events (
    turn_id uuid not null references turns (id) on delete cascade,
    first_id integer not null,
    events jsonb not null,
    primary key (turn_id, first_id)
);

alter table messages
    -- The turn that made it, and the lines it rests on.
    add column turn_id uuid references turns (id) on delete set null,
    add column citations jsonb not null default '[]',
    add column not_found text[] not null default '{}';

-- A run answers a report or a turn; its tool results are evidence of the same.
alter table runs alter column report_id drop not null,
    add column turn_id uuid references turns (id) on delete cascade,
    add constraint runs_of_one check ((report_id is null) <> (turn_id is null));
create index runs_by_turn on runs (turn_id) where turn_id is not null;
alter table evidence alter column report_id drop not null,
    add column conversation_id uuid references conversations (id) on delete cascade,
    add constraint evidence_of_one check ((report_id is null) <> (conversation_id is null)),
    add constraint evidence_by_conversation unique (conversation_id, position);
