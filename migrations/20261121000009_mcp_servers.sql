-- MCP servers that were added over the API; secrets are references.
create table mcp_servers (
    name text primary key,
    settings jsonb not null,
    created_at timestamptz not null
);
