-- Lines that a program showed in red are likelier to say why it failed; the colour itself does not survive cleaning.
alter table evidence add column red int[] not null default '{}';
