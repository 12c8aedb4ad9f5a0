-- Who reported and who asked: scopes, budgets, the tool policy and the record go by them.

alter table reports add column caller text not null default 'user';
-- A key is its caller's own: nobody learns of another's report by guessing its key.
alter table reports drop constraint reports_idempotency_key_key;
create unique index reports_idempotency_key on reports (caller, idempotency_key);
create index reports_by_caller on reports (caller, id desc);

alter table turns add column caller text not null default 'user';
alter table turns add column role text not null default 'admin';
