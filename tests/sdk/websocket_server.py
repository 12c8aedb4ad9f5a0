"""An MCP server over WebSocket, made of the official Python SDK: one reading tool, whose answer may be long. Argument: its port."""

import sys

import uvicorn
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.websocket import websocket_server
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

server = Server("socket")


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    schema = {"type": "object", "properties": {"text": {"type": "string"}, "times": {"type": "integer"}}, "required": ["text"]}
    reads = types.ToolAnnotations(readOnlyHint=True)
    return [types.Tool(name="echo", description="Says it again", inputSchema=schema, annotations=reads)]


@server.call_tool()
async def call_tool(name: str, arguments: dict) -> list[types.TextContent]:
    return [types.TextContent(type="text", text=f"{name}: {arguments['text'] * arguments.get('times', 1)}")]


async def endpoint(socket) -> None:
    if socket.headers.get("authorization") != "Bearer t":
        await socket.close(4401)
        return
    async with websocket_server(socket.scope, socket.receive, socket.send) as (read, write):
        await server.run(read, write, server.create_initialization_options())


app = Starlette(routes=[WebSocketRoute("/ws", endpoint)])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
