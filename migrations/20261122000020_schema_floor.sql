-- The newest migration that a program has to know to work with this schema. A program that knows it but not all that were
-- applied is an older one, rolled back or still running in the middle of an upgrade, and goes on.
-- A migration that takes away what programs before it use sets this to its own version.
create table schema_floor (version bigint not null);
create unique index schema_floor_once on schema_floor ((true));
insert into schema_floor values (20261122000020);
