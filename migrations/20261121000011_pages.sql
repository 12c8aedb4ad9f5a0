-- What pages list and count has to be found without reading every row; and what was done is kept, whatever is deleted.
create index incidents_by_state on incidents (status, class, last_seen desc, id desc);
create index incidents_by_class on incidents (class, last_seen desc, id desc);
create index incidents_by_namespace on incidents (namespace, last_seen desc, id desc);
-- A name such as registry.example.com or lib.so is looked for by any of its parts.
create index incidents_by_words on incidents
    using gin (to_tsvector('simple', regexp_replace(title || ' ' || namespace, '[^[:alnum:]]+', ' ', 'g')));
create index reports_active on reports (created_at) where status in ('queued', 'running', 'waiting');
create index runs_by_start on runs (started_at);

-- One row for each thing done by a person or by Regreen on its own; rows are added and never changed.
create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    actor text not null,
    action text not null,
    -- What it was done to: a kind and an id or name.
    object_kind text not null,
    object text not null,
    outcome text not null,
    detail text not null default ''
);
create index audit_by_time on audit (at desc, id desc);
create index audit_by_action on audit (action, id desc);
