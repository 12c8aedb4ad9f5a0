-- What a tool told somebody who called it with their own token is theirs alone, and so is every answer that knew of it. And who
-- said a message is kept: to a model, the words of whoever asks are orders, those of others are data.

-- `visible_to` is the caller who alone may read it; without one everybody may. A turn's counts for its events, its runs and the
-- calls that it asked for.
alter table turns add column visible_to text;
alter table messages add column visible_to text;
alter table evidence add column visible_to text;
create index messages_own on messages (visible_to) where visible_to is not null;

-- The person who said it, or whom it answers. None of what the program says, and of messages from before this column.
alter table messages add column speaker text;
alter table turns add column speaker text;

-- Who began a conversation, and may delete it. None where it began with an incident.
alter table conversations add column opened_by text;
update conversations c
set opened_by = (select t.caller from turns t where t.conversation_id = c.id order by t.started_at, t.id limit 1)
where c.incident_id is null;
