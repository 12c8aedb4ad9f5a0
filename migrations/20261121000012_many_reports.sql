-- A cause that came back a thousand times has a thousand reports: the one that led, the latest ones and their pipelines are found
-- without reading the others.
create index reports_leading on reports (incident_id, created_at desc, id desc) where leads;
create index reports_by_incident_and_time on reports (incident_id, id desc);
drop index reports_by_incident;
create index reports_by_pipeline on reports (incident_id, (failure ->> 'pipeline'));
-- Messages are shown with the runs of their turns.
create index turns_by_conversation on turns (conversation_id);
