// Calls a running service by the types that openapi-typescript made of its description. Whatever does not fit them is no program.
// Arguments: the service's URL, and a namespace and pod to report.

import type { components, paths } from "./api.ts";

type Schemas = components["schemas"];
type Json<T> = T extends { content: infer C } ? C[keyof C] : never;
type Operation<P extends keyof paths, M extends keyof paths[P]> = paths[P][M];
type Good<O> = O extends { responses: { 200: infer R } } ? Json<R> : never;
type Query<O> = O extends { parameters: { query?: infer Q } } ? Q : never;
type Body<O> = O extends { requestBody: { content: { "application/json": infer B } } } ? B : never;

declare const process: { argv: string[]; exit(code: number): never };

const [base, namespace, pod] = process.argv.slice(2) as [string, string, string];

class Refused extends Error {
    readonly problem: Schemas["Problem"];
    constructor(problem: Schemas["Problem"]) {
        super(problem.detail);
        this.problem = problem;
    }
}

async function read(response: Response): Promise<unknown> {
    const value: unknown = await response.json();
    if (!response.ok) throw new Refused(value as Schemas["Problem"]);
    return value;
}

async function get<P extends keyof paths>(path: P, query: Query<Operation<P, "get">>, id = ""): Promise<Good<Operation<P, "get">>> {
    const asked = new URLSearchParams(Object.entries(query ?? {}).map(([name, value]) => [name, String(value)]));
    return (await read(await fetch(`${base}${path.replace("{id}", id)}?${asked}`))) as Good<Operation<P, "get">>;
}

async function post<P extends keyof paths>(path: P, body: Body<Operation<P, "post">>): Promise<Good<Operation<P, "post">>> {
    const headers = { "content-type": "application/json" };
    return (await read(await fetch(base + path, { method: "POST", headers, body: JSON.stringify(body) }))) as Good<Operation<P, "post">>;
}

const reported = await post("/report-failure", { namespace, pod_name: pod });
const report = await get("/api/reports/{id}", undefined, reported.report_id);
const page = await get("/api/incidents", { status: "open", limit: 1 });
const incident = page.incidents[0];
if (!incident) throw new Error("there is no incident");
const kind: Schemas["FailureClass"] = incident.class;
const servers = await get("/api/mcp-servers", undefined);
const missing = await get("/api/reports/{id}", undefined, "00000000-0000-0000-0000-000000000000").then(
    () => "",
    (refused: unknown) => (refused instanceof Refused ? refused.problem.detail : "no problem"),
);
// @ts-expect-error there is no such status
const wrong: Query<Operation<"/api/incidents", "get">> = { status: "closed" };
const errors = await get("/api/incidents", wrong).then(
    () => [],
    (refused: unknown) => (refused instanceof Refused ? (refused.problem.errors ?? []) : []),
);

console.log(
    JSON.stringify({
        result: reported.result,
        report: report.id,
        incident: incident.title,
        kind,
        servers: servers.servers.map((server) => [server.name, server.transport, server.state, server.tools]),
        problem: missing,
        errors: errors.map((error) => error.field),
    }),
);
