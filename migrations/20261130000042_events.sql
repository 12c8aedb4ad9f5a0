-- What happens, for whoever watches: one append-only log, with a stream for each answer, report and incident.
create table events (
    -- The turn, report or incident.
    stream uuid not null,
    -- From 1, without gaps.
    seq integer not null,
    kind text not null,
    -- Text of JSON, which may hold what `jsonb` cannot.
    payload json not null default 'null',
    -- Who alone may read it.
    visible_to text,
    at timestamptz not null default now(),
    primary key (stream, seq)
);

-- Whoever appends holds the row that the stream is of. Each append is told, with what the stream is of and its id.
create function append_event(subject text, id uuid, what text, fields json) returns void language sql as $$
    insert into events (stream, seq, kind, payload)
    select id, coalesce(max(e.seq), 0) + 1, what, fields from events e where e.stream = id;
    select pg_notify('regreen_events', subject || ' ' || id);
$$;

-- What the version before kept, and what its last processes keep until they are gone: it is found here alone. First without locks, for there
-- may be much; then what came meanwhile.
insert into events (stream, seq, kind, payload, visible_to)
select t.turn_id, (e ->> 'id')::int, e ->> 'name', (e ->> 'data')::json, e ->> 'visible_to'
from turn_events t cross join jsonb_array_elements(t.events) as e;

create function batch_kept() returns trigger language plpgsql as $$
begin
    insert into events (stream, seq, kind, payload, visible_to)
    select t.id, (e ->> 'id')::int, e ->> 'name', (e ->> 'data')::json, e ->> 'visible_to'
    from (select id from turns where id = new.turn_id for key share) as t cross join jsonb_array_elements(new.events) as e
    on conflict do nothing;
    perform pg_notify('regreen_events', 'turn ' || new.turn_id);
    return null;
end $$;
create trigger batch_kept before insert on turn_events for each row execute function batch_kept();
insert into events (stream, seq, kind, payload, visible_to)
select t.turn_id, (e ->> 'id')::int, e ->> 'name', (e ->> 'data')::json, e ->> 'visible_to'
from turn_events t join turns on turns.id = t.turn_id cross join jsonb_array_elements(t.events) as e
where turns.finished_at is null or turns.finished_at > now() - interval '1 day'
on conflict do nothing;
truncate turn_events;

create function incident_changed() returns trigger language plpgsql as $$
begin
    perform append_event('incident', new.id, 'incident.' || new.status, 'null');
    return null;
end $$;
create trigger incident_came after insert on incidents for each row execute function incident_changed();
create trigger incident_changed after update of status on incidents for each row
    when (old.status is distinct from new.status) execute function incident_changed();

create function report_changed() returns trigger language plpgsql as $$
begin
    perform append_event('report', new.id, 'report.' || new.status, 'null');
    return null;
end $$;
create trigger report_came after insert on reports for each row execute function report_changed();
create trigger report_changed after update of status on reports for each row
    when (old.status is distinct from new.status) execute function report_changed();

create function step_taken() returns trigger language plpgsql as $$
begin
    perform from reports where id = new.report_id for no key update;
    perform append_event('report', new.report_id, 'report.step', json_build_object('name', new.name));
    return null;
end $$;
create trigger step_taken after insert on steps for each row execute function step_taken();

-- A stream goes with what it is of.
create function stream_gone() returns trigger language plpgsql as $$
begin
    delete from events where stream in (select id from gone);
    return null;
end $$;
create trigger turn_gone after delete on turns referencing old table as gone
    for each statement execute function stream_gone();
create trigger report_gone after delete on reports referencing old table as gone
    for each statement execute function stream_gone();
create trigger incident_gone after delete on incidents referencing old table as gone
    for each statement execute function stream_gone();

-- What models were shown goes with the record of a run, whichever version removes that.
create function run_pruned() returns trigger language plpgsql as $$
begin
    delete from events where stream = new.turn_id;
    return null;
end $$;
create trigger run_pruned after update of pruned_at on runs for each row
    when (new.pruned_at is not null and new.turn_id is not null) execute function run_pruned();
