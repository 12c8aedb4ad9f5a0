"""Talks to Regreen's MCP endpoint with the official SDK and with fastmcp; prints what they heard as JSON.

Arguments: the service's URL, and a namespace and two pods to report."""

import asyncio
import json
import sys
import warnings

warnings.simplefilter("ignore")

from fastmcp import Client
from mcp import ClientSession, McpError
from mcp.client.streamable_http import streamable_http_client

base, namespace, first, second = sys.argv[1:]
url = base + "/mcp"


def kept(told):
    async def keep(progress, total, message):
        told.append([progress, total, message])

    return keep


async def sdk():
    told = []
    async with streamable_http_client(url) as (read, write, _), ClientSession(read, write) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        # The SDK itself checks the answer against the tool's schema.
        result = await session.call_tool(
            "triage_failure", {"namespace": namespace, "pod_name": first}, progress_callback=kept(told)
        )
        found = result.structuredContent
        incident = "regreen://incidents/" + found["incident_id"]
        resources, cursor = [], None
        while True:
            page = await session.list_resources(cursor)
            resources += page.resources
            cursor = page.nextCursor
            if cursor is None:
                break
        runbook = next(one for one in resources if str(one.uri).startswith("regreen://runbooks/"))
        prompt = await session.get_prompt("failure-analyst", {"incident": found["incident_id"]})
        errors = []
        for wrong in (
            session.read_resource("regreen://incidents/00000000-0000-0000-0000-000000000000"),
            session.read_resource("file:///etc/passwd"),
            session.list_resources("elsewhere:1"),
            session.get_prompt("nobody"),
            session.get_prompt("explainer", {}),
            session.get_prompt("explainer", {"question": "x", "other": "y"}),
        ):
            try:
                errors.append(str(await wrong))
            except McpError as error:
                errors.append([error.error.code, error.error.message])
        schema = tools["triage_failure"].outputSchema
        return {
            "schema": [*schema["properties"], *(name.strip("^$") for name in schema["patternProperties"])],
            "error": result.isError,
            "found": found,
            "told": told,
            "templates": [one.uriTemplate for one in (await session.list_resource_templates()).resourceTemplates],
            "listed": incident in [str(one.uri) for one in resources],
            "twice": len(resources) - len({str(one.uri) for one in resources}),
            "runbooks": sum(str(one.uri).startswith("regreen://runbooks/") for one in resources),
            "incident": (await session.read_resource(incident)).contents[0].text,
            "runbook": (await session.read_resource(runbook.uri)).contents[0].text,
            "prompts": [[one.name, one.arguments[0].name] for one in (await session.list_prompts()).prompts],
            "prompt": [message.content.type for message in prompt.messages],
            "instructions": prompt.messages[0].content.text,
            "errors": errors,
        }


async def fast():
    told = []
    async with Client(url) as client:
        result = await client.call_tool(
            "triage_failure", {"namespace": namespace, "pod_name": second}, progress_handler=kept(told)
        )
        silent = await client.call_tool("get_report", {"id": result.structured_content["report_id"]})
        resources = await client.list_resources()
        read = await client.read_resource(resources[0].uri)
        prompt = await client.get_prompt("troubleshooter", {"problem": "The disk is full."})
        return {
            "title": result.data.title,
            "told": len(told),
            "report": silent.structured_content["status"],
            "first": read[0].text,
            "mime": read[0].mimeType,
            "prompt": prompt.messages[-1].content.text,
        }


print(json.dumps({"sdk": asyncio.run(sdk()), "fastmcp": asyncio.run(fast())}))
