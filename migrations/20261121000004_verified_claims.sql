-- How many claims of a run were found in the evidence.
alter table runs add column claims integer not null default 0;
alter table runs add column claims_verified integer not null default 0;
