-- A report that failed is tried again, and a cause is investigated anew, when a person says so.
-- When it was asked for last: what a report took is counted from then on.
alter table reports add column again_at timestamptz;
-- Whether its investigation is to be made although there is a conclusion; false once there is another one.
alter table reports add column anew boolean not null default false;
-- Failed reports are counted on every overview and listed by themselves.
create index reports_failed on reports (id desc) where status = 'failed';
create index reports_by_pipeline_and_time on reports ((failure ->> 'pipeline'), id desc);
-- Lists of incidents can begin with those that are new, or that came most often.
create index incidents_by_first_seen on incidents (first_seen desc, id desc);
create index incidents_by_occurrences on incidents (occurrences desc, id desc);
-- An incident that was resolved too early is open again.
alter table resolutions drop constraint resolutions_verdict_check;
alter table resolutions add constraint resolutions_verdict_check
    check (verdict in ('confirmed', 'corrected', 'note', 'closed', 'reopened'));
