-- The log as received, secrets and all: only where the configuration asks for it.
alter table evidence add column raw text;
