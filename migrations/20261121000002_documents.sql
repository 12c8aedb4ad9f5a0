-- Runbooks and notes, cut into chunks that full-text search finds.
create table documents (
    id uuid primary key,
    path text not null unique,
    title text not null,
    kind text not null,
    content_hash text not null,
    updated_at timestamptz not null
);

create table chunks (
    document_id uuid not null references documents (id) on delete cascade,
    position integer not null,
    heading text not null,
    text text not null,
    -- English for sentences, `simple` for identifiers such as ErrImagePull or E0308.
    search tsvector not null generated always as (
        setweight(to_tsvector('english', heading), 'A')
        || setweight(to_tsvector('simple', heading), 'A')
        || to_tsvector('english', text)
        || to_tsvector('simple', text)
    ) stored,
    primary key (document_id, position)
);
create index chunks_search on chunks using gin (search);
