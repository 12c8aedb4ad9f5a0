-- A cause whose issue was closed and that comes back: a new incident that names the old one.
alter table incidents add column previous_id uuid references incidents (id) on delete set null;
alter table incidents add column resolved_at timestamptz;
-- When the tracker was last asked whether the issue is still open.
alter table incidents add column issue_checked_at timestamptz;
