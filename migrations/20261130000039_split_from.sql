-- An incident that goes has those looked for that were split from it.
create index incidents_split_from on incidents (split_from) where split_from is not null;
