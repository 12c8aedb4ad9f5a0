-- What is past its time: texts go first and leave a mark, so that labels, counts and citations keep their meaning; whole rows later.
alter table evidence add column pruned_at timestamptz;
alter table runs add column pruned_at timestamptz;
create index evidence_kept on evidence (created_at) where pruned_at is null;
create index runs_kept on runs (started_at) where pruned_at is null;
create index reports_by_end on reports (finished_at) where not leads;
create index incidents_by_end on incidents (resolved_at) where status = 'resolved';
-- What points at a row is looked for when it goes.
create index incidents_by_previous on incidents (previous_id) where previous_id is not null;
create index messages_by_turn on messages (turn_id) where turn_id is not null;
