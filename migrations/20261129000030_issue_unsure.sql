-- A tracker that did not answer in time may file the issue all the same, later. Until this time the issue is looked for and no
-- other one is filed. Null: nothing is unsure.
alter table incidents add column issue_unsure_until timestamptz;
