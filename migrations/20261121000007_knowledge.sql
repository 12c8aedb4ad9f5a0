-- Knowledge: runbooks, past incidents and conversations are documents, cut into chunks that words and vectors find.
-- The old tables held what is read again from the corpus at the next start.
drop table chunks;
drop table documents;

-- Each incident opens one; its messages are searchable.
create table conversations (
    id uuid primary key,
    incident_id uuid unique references incidents (id) on delete cascade,
    title text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table messages (
    id uuid primary key,
    conversation_id uuid not null references conversations (id) on delete cascade,
    position integer not null,
    role text not null check (role in ('user', 'assistant')),
    author text not null,
    text text not null,
    created_at timestamptz not null,
    unique (conversation_id, position)
);

-- What people and the tracker say about a cause after the fact; never overwritten.
create table resolutions (
    id uuid primary key,
    incident_id uuid not null references incidents (id) on delete cascade,
    verdict text not null check (verdict in ('confirmed', 'corrected', 'note', 'closed')),
    cause text,
    fix text,
    link text,
    author text not null,
    origin text not null check (origin in ('person', 'tracker', 'chat')),
    -- The tracker delivers an event more than once.
    delivery text unique,
    created_at timestamptz not null
);
create index resolutions_by_incident on resolutions (incident_id, created_at);

create table documents (
    id uuid primary key,
    -- The set it is searched in.
    realm text not null check (realm in ('runbook', 'incident', 'conversation')),
    -- Where it was read from: `built-in`, `api`, a folder, `incident`, `conversation`. With the path it identifies the document.
    source text not null,
    path text not null,
    title text not null,
    kind text not null,
    applies_to text[] not null default '{}',
    class text,
    content_hash text not null,
    -- What recognises its failures in a log line.
    signatures jsonb not null default '[]',
    body text not null,
    -- Of an incident: a person or the tracker said how it ended.
    solved boolean not null default false,
    incident_id uuid references incidents (id) on delete cascade,
    conversation_id uuid references conversations (id) on delete cascade,
    updated_at timestamptz not null,
    unique (source, path)
);
create index documents_by_incident on documents (incident_id) where incident_id is not null;
create index documents_by_conversation on documents (conversation_id) where conversation_id is not null;

create table chunks (
    id bigint generated always as identity primary key,
    document_id uuid not null references documents (id) on delete cascade,
    realm text not null,
    kind text not null,
    applies_to text[] not null,
    position integer not null,
    heading text not null,
    text text not null,
    -- English for sentences, `simple` for identifiers such as ErrImagePull or E0308.
    search tsvector not null generated always as (
        setweight(to_tsvector('english', heading), 'A')
        || setweight(to_tsvector('simple', heading), 'A')
        || to_tsvector('english', text)
        || to_tsvector('simple', text)
        -- The parts of what is one word otherwise: host names, paths, e-mail addresses.
        || to_tsvector('simple', regexp_replace(heading || ' ' || text, '[^[:alnum:]]+', ' ', 'g'))
    ) stored,
    unique (document_id, position)
);
-- One index per set, so that a million messages do not slow a search for runbooks. No pending lists: each word of a
-- query would read them.
create index chunks_search_runbook on chunks using gin (search) with (fastupdate = off) where realm = 'runbook';
create index chunks_search_incident on chunks using gin (search) with (fastupdate = off) where realm = 'incident';
create index chunks_search_conversation on chunks using gin (search) with (fastupdate = off) where realm = 'conversation';

-- In how many chunks of a set a word stands: the weight of a word, and which words are too frequent to look up.
create table lexemes (
    realm text not null,
    word text not null,
    chunks integer not null,
    primary key (word, realm)
);
create table lexeme_totals (
    realm text primary key,
    -- Chunks at the count, and the highest id then: when much has changed since, it is counted again.
    chunks bigint not null,
    last_chunk bigint not null
);

-- Embeddings of different models live side by side; searches use the newest space that is ready and can be asked.
create table embedding_spaces (
    id integer generated always as identity primary key,
    provider text not null,
    model text not null,
    dimensions integer not null check (dimensions between 1 and 2000),
    created_at timestamptz not null,
    -- When every chunk had its vector for the first time.
    ready_at timestamptz,
    unique (provider, model)
);

create table embeddings (
    space_id integer not null references embedding_spaces (id) on delete cascade,
    chunk_id bigint not null references chunks (id) on delete cascade,
    -- Copies of the chunk's, so that the index scan can filter.
    realm text not null,
    kind text not null,
    applies_to text[] not null,
    vector vector not null,
    primary key (space_id, chunk_id)
);
create index embeddings_by_chunk on embeddings (chunk_id);
-- Beside the row, not in a side table that every comparison would have to open.
alter table embeddings alter column vector set storage main;
