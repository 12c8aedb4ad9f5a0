-- A year of a large installation: 100,000 incidents, 300,000 reports, what was done for them and what was said of them.
select setseed(0.5);

create temp table seen as
select n, incident, now() - random() * interval '364 days' - interval '1 minute' as at, n <= 100000 as leads
-- Few causes come back often, most never.
from (select n, case when n <= 100000 then n else 1 + floor(100000 * random() ^ 3)::int end as incident from generate_series(1, 300000) n) r;

create temp table cause as
select s.incident as n, uuidv7(min(s.at) - now()) as id, count(*) as occurrences, min(s.at) as first_seen, max(s.at) as last_seen,
       'team-' || lpad(floor(200 * random() ^ 2)::int::text, 3, '0') as namespace,
       (array['code', 'test', 'test', 'dependency', 'dependency', 'configuration', 'infrastructure', 'unknown'])[1 + s.incident % 8] as class,
       (array['payments', 'ledger', 'invoice', 'search', 'checkout', 'catalogue', 'session', 'mail', 'report', 'gateway', 'stock', 'price'])[1 + floor(12 * random())::int] as part,
       (array['connection refused by the registry', 'assertion failed in the nightly suite', 'out of memory while linking', 'image cannot be pulled',
              'version conflict of a dependency', 'timeout while waiting for the database', 'permission denied on the volume', 'syntax error in a manifest',
              'certificate has expired', 'disk is full', 'test is flaky under load', 'checksum does not match'])[1 + floor(12 * random())::int] as trouble
from seen s group by s.incident;
update cause set namespace = 'team-rare' where n in (17, 4711, 90210);
create unique index on cause (n);

insert into incidents (id, namespace, fingerprint, status, title, class, diagnosis, issue_url, issue_number, commented_at, occurrences, first_seen, last_seen, resolved_at)
select id, namespace, md5(n::text), case when n % 10 = 0 then 'open' else 'resolved' end,
       format('%s-service-%s: %s', part, n % 1000, trouble), class,
       jsonb_build_object('title', format('%s-service-%s: %s', part, n % 1000, trouble),
           'cause', repeat(format('The step `build` of %s-service ended because of this: %s. It was seen first at line 4,207. ', part, trouble), 3),
           'class', class, 'confidence', 'high', 'analyst', 'bench', 'not_found', jsonb_build_array(),
           'claims', jsonb_build_array(
               jsonb_build_object('statement', 'The log says why: ' || trouble, 'evidence', 'E1', 'first_line', 12, 'last_line', 14, 'quote', md5(n::text) || ' ' || trouble, 'verified', true, 'paraphrased', false),
               jsonb_build_object('statement', 'It ended with a status other than 0', 'evidence', 'E1', 'first_line', 38, 'last_line', 38, 'quote', 'exit status 1', 'verified', true, 'paraphrased', false),
               jsonb_build_object('statement', 'The node had room: ' || md5((n + 1)::text), 'evidence', 'E1', 'first_line', 3, 'last_line', 3, 'quote', md5((n + 2)::text), 'verified', false, 'paraphrased', true)),
           'next_steps', jsonb_build_array('Look at `' || part || '/build.yaml` and compare it with the last good run.', 'Ask the team ' || namespace || ' whether the change of that day was meant.', 'Run it again once that is mended.')),
       'https://git.example.com/platform/failures/issues/' || n, n, last_seen, occurrences, first_seen, last_seen,
       case when n % 10 <> 0 then last_seen end
from cause;

create temp table report as
select s.n, uuidv7(s.at - now()) as id, s.at, s.leads, c.id as incident, c.namespace, c.part, s.incident as cause
from seen s join cause c on c.n = s.incident;

insert into reports (id, request_hash, namespace, pod_name, failure, status, result, incident_id, leads, attempts, created_at, finished_at)
select id, md5(n::text), namespace, format('%s-build-%s', part, n),
       jsonb_build_object('namespace', namespace, 'pod_name', format('%s-build-%s', part, n), 'container_name', 'step-build', 'pipeline', part || '-' || cause % 40,
           'task', 'build', 'run', 'run-' || n, 'run_url', 'https://ci.example.com/runs/' || n, 'last_good_run', 'https://ci.example.com/runs/' || n - 7,
           'repository', 'https://git.example.com/shop/' || part, 'commit', md5(n::text)),
       case when newest <= 5 then 'running' when newest <= 25 then 'queued' when newest <= 45 then 'waiting' else 'done' end,
       case when newest > 45 then 'Known cause; the issue was counted.' end, incident, leads, 1, at, case when newest > 45 then at + random() * interval '90 seconds' end
from (select *, row_number() over (order by leads, at desc) as newest from report) r;

insert into steps (report_id, name, detail, at, duration_ms)
select r.id, s.name, 'What the step ' || s.name || ' came to, in a sentence of the usual length.', r.at + s.nth * interval '3 seconds', 900 + s.nth
from report r cross join (values (1, 'collect'), (2, 'place'), (3, 'investigate'), (4, 'verify'), (5, 'publish')) as s (nth, name)
where r.leads or s.nth <= 2;

insert into evidence (id, report_id, position, kind, title, text, lines, bytes, created_at)
select uuidv7(r.at - now()), r.id, 1, 'log', 'log of step-build', t.text, 40, length(t.text), r.at
from report r cross join lateral (select string_agg(format('%s step %s of the build: %s', r.n, line, md5((r.n + line)::text)), E'\n') || E'\n' as text from generate_series(1, 40) line) t
where r.leads;

insert into runs (id, report_id, analyst, stop_reason, turns, input_tokens, output_tokens, cost, claims, claims_verified, started_at, duration_ms)
select uuidv7(r.at - now()), r.id, 'bench', 'submitted', 3, 9000 + r.n % 999, 700, 0.02, 3, 2, r.at, 21000 from report r where r.leads;
insert into tool_calls (run_id, position, turn, name, arguments, result, failed, duration_ms)
select id, p, p, 'search_evidence', '{"pattern":"error|failed"}', repeat('E1:12: what was found, with its line. ', 8), false, 3 from runs cross join generate_series(1, 2) p;

insert into conversations (id, incident_id, title, created_at, updated_at)
select uuidv7(last_seen - now()), id, format('%s-service-%s: %s', part, n % 1000, trouble), first_seen, last_seen from cause;
insert into messages (id, conversation_id, position, role, author, text, created_at)
select uuidv7(created_at - now()), id, p, case p when 0 then 'user' else 'assistant' end, 'alice', repeat('What is said about ' || title || '. ', 4), created_at
from conversations cross join generate_series(0, 1) p;
insert into audit (at, actor, action, object_kind, object, outcome)
select at, 'alice', (array['issue.filed', 'report.taken', 'approval.decided'])[1 + n % 3], 'incident', incident::text, 'done' from report order by at;

-- A log of a hundred thousand lines, as the second piece of the latest report that led.
insert into evidence (id, report_id, position, kind, title, text, lines, bytes, created_at)
select uuidv7(), (select id from report where leads order by at desc limit 1), 2, 'log', 'a long log', t.text, 100000, octet_length(t.text), now()
from (select string_agg(format('2026-11-21T10:%s:%s.%sZ worker-%s %s', lpad((n / 6000 % 60)::text, 2, '0'), lpad((n / 100 % 60)::text, 2, '0'), lpad((n % 100 * 10)::text, 3, '0'), n % 16,
        case when n = 60000 then 'error: cannot write /data/out/objects: No space left on device (os error 28)'
             when n % 50 = 0 then 'warning: the cache entry ' || md5(n::text) || ' is older than allowed and was fetched anew from the mirror of the region'
             when n % 7 = 0 then format('compiled the module %s::%s in %s ms; the object has the digest %s', left(md5(n::text), 6), right(md5(n::text), 9), n % 700, md5((n + 1)::text) || md5((n + 2)::text))
             else format('GET /v2/layers/%s 200 %s bytes in %s ms, kept under the key %s for the steps that come later', md5(n::text), n * 37 % 900000, n % 90, md5((n + 5)::text)) end), E'\n' order by n) || E'\n' as text
      from generate_series(1, 100000) n) t;
