-- How often something was tried to be told, and until when it is not tried again: the pauses grow.
alter table notifications add column tries integer not null default 0;
alter table notifications add column not_before timestamptz;

-- A commit is named by as many of its digits as its reporter likes.
drop index reports_commit;
create index reports_commit on reports (left(lower(failure ->> 'commit'), 7)) where failure ->> 'commit' is not null;
