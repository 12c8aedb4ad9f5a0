-- What has to be told to whom: written with the end of a report, sent by a job, several at a time when many come.
create table notifications (
    id uuid primary key,
    -- Name of a `[[notify]]` table of the configuration.
    target text not null,
    event text not null check (event in ('new', 'returned', 'known', 'failed')),
    report_id uuid not null references reports (id) on delete cascade,
    created_at timestamptz not null,
    -- Somebody is sending it until then.
    claimed_until timestamptz,
    sent_at timestamptz,
    -- Why it never will be.
    refused text
);
create index notifications_due on notifications (target, created_at) where sent_at is null and refused is null;
create index notifications_sent on notifications (target, sent_at) where sent_at is not null;
create index notifications_report on notifications (report_id);

-- What else failed for a commit.
create index reports_commit on reports ((failure ->> 'commit')) where failure ->> 'commit' is not null;
