"""Talks to Regreen with the official OpenAI package; prints what it heard as JSON."""

import json
import sys

from openai import NotFoundError, OpenAI

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
models = [model.id for model in client.models.list()]
history = [{"role": "user", "content": "Which tag?"}]
first = client.chat.completions.create(model="troubleshooter", messages=history)
history += [
    {"role": "assistant", "content": first.choices[0].message.content},
    {"role": "user", "content": [{"type": "text", "text": "And then?"}]},
]
chunks = list(
    client.chat.completions.create(
        model="troubleshooter", messages=history, stream=True, stream_options={"include_usage": True}
    )
)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
try:
    client.chat.completions.create(model="nobody", messages=history)
    refused = None
except NotFoundError as error:
    refused = error.code
print(
    json.dumps(
        {
            "models": models,
            "first": first.choices[0].message.content,
            "finish": first.choices[0].finish_reason,
            "tokens": first.usage.total_tokens,
            "second": text,
            "streamed_tokens": chunks[-1].usage.total_tokens,
            "pieces": len(chunks),
            "refused": refused,
        }
    )
)
