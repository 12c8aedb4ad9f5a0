-- A cause is known by several fingerprints: by what the cluster says of the workload, by what a reporter said of it, by the lines
-- that tell two causes of one workload apart. Merging and splitting incidents changes what a fingerprint stands for.
create table fingerprint_aliases (
    fingerprint text primary key,
    -- The fingerprint of the incidents that its reports are placed under.
    stands_for text not null,
    -- `found` in the cluster, `named` or `said` by a reporter, or by a person's `merge` or `split`.
    learned text not null check (learned in ('found', 'named', 'said', 'merge', 'split')),
    learned_at timestamptz not null
);
create index fingerprint_aliases_by_target on fingerprint_aliases (stands_for);

-- What a report can be recognised by, the most general first, and what tells it from others of the same cause.
alter table reports add column fingerprints text[] not null default '{}';
alter table reports add column fine_fingerprints text[] not null default '{}';

-- An incident that was merged is resolved, and leads to the one that goes on.
alter table incidents add column merged_into uuid references incidents (id) on delete cascade;
alter table incidents add column split_from uuid references incidents (id) on delete set null;
-- The incident whose mark its issue bears, when it took the issue over.
alter table incidents add column issue_marker uuid;
create index incidents_merged on incidents (merged_into) where merged_into is not null;
create index incidents_by_fingerprint on incidents (fingerprint);
