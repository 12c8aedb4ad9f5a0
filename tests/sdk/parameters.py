"""What Regreen does with parameters, and with what chat clients ask on their own behalf, by the official OpenAI package."""

import json
import sys

from openai import BadRequestError, NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
prompts = json.loads(sys.argv[2])
question = [{"role": "user", "content": "Which tag?"}]


def ask(**more):
    return client.chat.completions.create(**{"model": "troubleshooter", "messages": question, **more})


def refused(**more):
    try:
        ask(**more)
    except BadRequestError as error:
        return [error.param, error.code]


try:
    missing = client.models.retrieve("nobody")
except NotFoundError as error:
    missing = [error.code, error.param]
cut = ask(max_completion_tokens=5, temperature=0.5, n=1, tools=[], response_format={"type": "text"})
tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
title = ask(messages=[{"role": "user", "content": prompts["title"]}], max_tokens=1000)
tags = list(
    ask(messages=[{"role": "user", "content": prompts["tags"]}], stream=True, stream_options={"include_usage": True})
)
print(
    json.dumps(
        {
            "model": client.models.retrieve("read-only explainer").id,
            "missing": missing,
            "cut": [cut.choices[0].message.content, cut.choices[0].finish_reason],
            "refused": [
                refused(n=2),
                refused(tools=[tool]),
                refused(tools=[tool], tool_choice="auto"),
                refused(response_format=schema),
                refused(stop=["."]),
                refused(seed=7),
                refused(max_tokens=0),
                refused(extra_body={"top_k": 5}),
            ],
            "title": title.choices[0].message.content,
            "tags": "".join(chunk.choices[0].delta.content or "" for chunk in tags if chunk.choices),
            "tokens": tags[-1].usage.total_tokens,
        }
    )
)
