-- The record of what was done: chained, so that a change shows; by months, so that old ones go as a whole. Beside it what an
-- investigation was told, so that it can be run again.

alter table audit rename to audit_before;
alter table audit_before rename constraint audit_pkey to audit_before_pkey;
drop index audit_by_time;
drop index audit_by_action;

create sequence audit_ids;

create table audit (
    id bigint not null default nextval('audit_ids'),
    at timestamptz not null,
    actor text not null,
    action text not null,
    -- What it was done to: a kind and an id or name.
    object_kind text not null,
    object text not null,
    outcome text not null,
    duration_ms bigint,
    -- The request it came with, or the report or turn it was done for.
    trace text not null default '',
    -- The run of an agent that did it.
    run uuid,
    detail text not null default '',
    -- Figures and hashes. Not jsonb: the seal is over the very text.
    data json not null default '{}',
    -- The seal: the place in the chain, from 1 without a gap, and a hash over the one before and all of this row. Given in the
    -- order in which rows become visible, not in that of their ids, so that a late commit is not skipped.
    seq bigint,
    hash bytea,
    primary key (id, at),
    check ((seq is null) = (hash is null))
) partition by range (at);
create index audit_by_time on audit (at);
create index audit_by_action on audit (action, id);
create index audit_by_object on audit (object, id);
create index audit_by_trace on audit (trace, id) where trace <> '';
create index audit_by_run on audit (run, id) where run is not null;
create index audit_by_seq on audit (seq) where seq is not null;
create index audit_unsealed on audit (id) where seq is null;

-- The end of the chain. Whoever holds its row seals; nobody waits for it.
create table audit_head (
    one boolean primary key default true check (one),
    seq bigint not null,
    hash bytea not null
);
insert into audit_head (seq, hash) values (0, decode(repeat('00', 32), 'hex'));

-- Rows get their seal once. Nothing else of them changes and none is deleted; old months go as a whole.
create function audit_keeps() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if old.seq is null and new.seq is not null
           and (new.id, new.at, new.actor, new.action, new.object_kind, new.object, new.outcome, new.duration_ms, new.trace,
                new.run, new.detail, new.data::text)
               is not distinct from
               (old.id, old.at, old.actor, old.action, old.object_kind, old.object, old.outcome, old.duration_ms, old.trace,
                old.run, old.detail, old.data::text) then
            return new;
        end if;
    end if;
    raise exception 'rows of audit are added and never changed' using errcode = 'restrict_violation';
end $$;
create trigger audit_keeps before update or delete on audit for each row execute function audit_keeps();
create trigger audit_keeps_all before truncate on audit for each statement execute function audit_keeps();

-- What comes in a month that has no partition of its own. An insert must not fail for want of one.
create table audit_rest partition of audit default;
create trigger audit_keeps_all before truncate on audit_rest for each statement execute function audit_keeps();

-- Makes the partition of the month that begins then (UTC). False when there is one, or when rows of it are in the rest already.
-- Attached and not created in place: that locks out no insert.
create function audit_add_month(month date) returns boolean language plpgsql as $$
declare
    name text := 'audit_' || to_char(month, 'YYYY_MM');
    first timestamptz := month::timestamp at time zone 'UTC';
    past timestamptz := (month + interval '1 month') at time zone 'UTC';
begin
    perform pg_advisory_xact_lock(hashtext('regreen audit months'));
    if to_regclass(name) is not null or exists (select from audit_rest where at >= first and at < past) then
        return false;
    end if;
    execute format('create table %I (like audit including defaults including constraints)', name);
    execute format('alter table audit attach partition %I for values from (%L) to (%L)', name, first, past);
    execute format('create trigger audit_keeps_all before truncate on %I for each statement execute function audit_keeps()', name);
    return true;
end $$;

-- The months that have a partition, oldest first.
create function audit_months() returns table (name text, first timestamptz, past timestamptz) language sql stable as $$
    select relname::text, first at time zone 'UTC', (first + interval '1 month') at time zone 'UTC'
    from pg_inherits join pg_class on pg_class.oid = inhrelid
    cross join lateral (select to_timestamp(right(relname, 7), 'YYYY_MM')::date::timestamp as first) month
    where inhparent = 'audit'::regclass and relname ~ '^audit_\d{4}_\d{2}$'
    order by 2
$$;

-- Drops a month whose seals were noted in a row that stays.
create function audit_drop_month(month text) returns void language plpgsql as $$
begin
    if month !~ '^audit_\d{4}_\d{2}$' then
        raise exception 'not a month of audit: %', month;
    end if;
    execute format('drop table %I', month);
end $$;

-- What is on record already keeps its ids and is sealed by the first server that runs.
select audit_add_month(month::date) from (
    select date_trunc('month', at at time zone 'UTC') as month from audit_before
    union select date_trunc('month', now() at time zone 'UTC')
    union select date_trunc('month', now() at time zone 'UTC') + interval '1 month'
) months;
insert into audit (id, at, actor, action, object_kind, object, outcome, detail)
    select id, at, actor, action, object_kind, object, outcome, detail from audit_before order by id;
select setval('audit_ids', coalesce(max(id), 0) + 1, false) from audit;
drop table audit_before;

-- Texts that many runs were given alike: the system prompt, the list of tools.
create table recorded_texts (
    hash bytea primary key,
    text text not null
);

-- What a run of an investigation began with and what it concluded. Its tool calls are in tool_calls, what it could read in
-- evidence.
create table recordings (
    run_id uuid primary key references runs (id) on delete cascade,
    system bytea not null references recorded_texts (hash),
    tools bytea not null references recorded_texts (hash),
    brief text not null,
    -- Around untrusted text in the brief.
    fence text not null,
    -- Over the templates it was made with.
    prompts text not null,
    budget jsonb not null,
    -- As it was checked; none when the run did not conclude.
    diagnosis jsonb
);
