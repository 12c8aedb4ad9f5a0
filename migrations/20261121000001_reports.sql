-- The spine: reports come in, evidence is kept whole, causes become incidents, runs say how a cause was found.

-- Embeddings of runbooks and past failures live beside the text; asked for here so that a server without
-- pgvector is refused at the first start and not at the first search.
create extension if not exists vector;

create table incidents (
    id uuid primary key,
    namespace text not null,
    fingerprint text not null,
    status text not null default 'open' check (status in ('open', 'resolved')),
    title text not null,
    class text not null default 'unknown',
    diagnosis jsonb,
    issue_url text,
    issue_number bigint,
    -- When the latest comment was posted: at most one an hour.
    commented_at timestamptz,
    occurrences integer not null default 1,
    first_seen timestamptz not null,
    last_seen timestamptz not null
);

-- One open incident per cause. A burst of the same failure meets here, whatever worker it runs on.
create unique index incidents_one_open_per_cause on incidents (fingerprint) where status = 'open';
create index incidents_by_last_seen on incidents (last_seen desc, id desc);

create table reports (
    id uuid primary key,
    idempotency_key text unique,
    -- What was asked under the key: the same key with another body is refused.
    request_hash text not null,
    namespace text not null,
    pod_name text not null,
    container_name text,
    failure jsonb not null,
    status text not null default 'queued' check (status in ('queued', 'running', 'waiting', 'done', 'failed')),
    result text,
    error text,
    incident_id uuid references incidents (id),
    -- Whether this report opened the incident, and so investigates and files it.
    leads boolean not null default false,
    attempts integer not null default 0,
    -- Fences a worker that lost its report: whoever holds the token may write.
    lease_token uuid,
    lease_until timestamptz,
    created_at timestamptz not null,
    finished_at timestamptz
);
create index reports_by_time on reports (created_at desc, id desc);
create index reports_by_incident on reports (incident_id);

create table steps (
    report_id uuid not null references reports (id) on delete cascade,
    name text not null,
    detail text not null,
    at timestamptz not null,
    duration_ms bigint not null,
    primary key (report_id, name)
);

create table evidence (
    id uuid primary key,
    report_id uuid not null references reports (id) on delete cascade,
    position integer not null,
    kind text not null,
    title text not null,
    text text not null,
    lines integer not null,
    bytes integer not null,
    redactions integer not null default 0,
    created_at timestamptz not null,
    unique (report_id, position)
);

create table runs (
    id uuid primary key,
    report_id uuid not null references reports (id) on delete cascade,
    analyst text not null,
    stop_reason text not null,
    detail text,
    turns integer not null,
    input_tokens bigint not null,
    output_tokens bigint not null,
    cost double precision,
    started_at timestamptz not null,
    duration_ms bigint not null
);
create index runs_by_report on runs (report_id);

create table tool_calls (
    run_id uuid not null references runs (id) on delete cascade,
    position integer not null,
    turn integer not null,
    name text not null,
    arguments text not null,
    result text not null,
    failed boolean not null,
    duration_ms bigint not null,
    primary key (run_id, position)
);
