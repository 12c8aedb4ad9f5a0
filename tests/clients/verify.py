"""Chat clients that people use, before a running server: LiteLLM as its model and as its client, aider, Open WebUI. `make verify-clients`
installs them. LiteLLM answers for the model, with a text that stays the same, so that what comes through is known."""

import json
import os
import pathlib
import subprocess
import tempfile

from programs import call, free_port, running

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHAT = ROOT / ".tools/chat"
SAID = "The pod ran out of memory."
QUESTION = "What failed?"
# Open WebUI's own requests beside the chat, by the name of its task and the field that its answer is read from.
TASKS = {"title": "title", "tags": "tags", "follow_up": "follow_ups", "queries": "queries"}


def check(what, held, seen):
    if not held:
        raise SystemExit(f"FAILED  {what}\n{seen}")
    print(f"ok      {what}", flush=True)


def litellm(own):
    settings = {"model_list": [
        {"model_name": "fixed", "litellm_params": {"model": "openai/fixed", "api_key": "none", "mock_response": SAID}},
        {"model_name": "troubleshooter", "litellm_params": {"model": "openai/troubleshooter", "api_base": f"{own}/v1", "api_key": "none"}}]}
    return json.dumps(settings)


def through_litellm(proxy):
    body = {"model": "troubleshooter", "messages": [{"role": "user", "content": QUESTION}]}
    status, answer = call(f"{proxy}/v1/chat/completions", body)
    check("LiteLLM asks an agent", status == 200 and answer["choices"][0]["message"]["content"] == SAID, answer)
    status, answer = call(f"{proxy}/v1/chat/completions", {**body, "stream": True})
    events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith("data: {")]
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    check("LiteLLM streams an agent's answer", status == 200 and said == SAID and "[DONE]" in answer, answer)


def through_aider(own, folder):
    folder.mkdir()
    command = [
        CHAT / "aider/bin/aider", "--model", "openai/troubleshooter", "--openai-api-base", f"{own}/v1", "--openai-api-key", "none", "--message", QUESTION,
        "--no-git", "--yes-always", "--no-show-model-warnings", "--no-check-update", "--analytics-disable", "--no-gitignore", "--no-pretty"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    check("aider asks an agent", done.returncode == 0 and SAID in done.stdout, done.stdout + done.stderr)


def conversations(own):
    return len(call(f"{own}/api/conversations")[1]["conversations"])


def in_json(text):
    """The object in an answer, as Open WebUI takes it out; an empty one where there is none."""
    return json.loads(text[text.find("{"):text.rfind("}") + 1] or "{}")


def through_open_webui(own, base):
    token = call(f"{base}/api/v1/auths/signin", {"email": "", "password": ""})[1]["token"]
    headers = {"authorization": f"Bearer {token}"}
    listed = [model["id"] for model in call(f"{base}/api/models", headers=headers)[1]["data"]]
    check("Open WebUI lists the agents", "troubleshooter" in listed, listed)
    before = conversations(own)
    messages = [{"role": "user", "content": QUESTION}]
    status, answer = call(f"{base}/api/chat/completions", {"model": "troubleshooter", "stream": False, "messages": messages}, headers)
    check("Open WebUI asks an agent", status == 200 and answer["choices"][0]["message"]["content"] == SAID, answer)
    check("the question is a conversation", conversations(own) == before + 1, conversations(own))
    body = {"model": "troubleshooter", "prompt": QUESTION, "type": "web_search", "messages": [*messages, {"role": "assistant", "content": SAID}]}
    for task, field in TASKS.items():
        status, answer = call(f"{base}/api/v1/tasks/{task}/completions", body, headers)
        text = answer["choices"][0]["message"]["content"] if status == 200 else ""
        # The model says a sentence, whatever it is asked; the answer has the shape that Open WebUI reads all the same.
        check(f"Open WebUI's task {task} is answered in its shape", status == 200 and field in in_json(text), answer)
    check("its tasks are no conversations", conversations(own) == before + 1, conversations(own))


def without_model(own, base):
    """Open WebUI reads JSON out of what it is told, with or without a model behind it."""
    token = call(f"{base}/api/v1/auths/signin", {"email": "", "password": ""})[1]["token"]
    body = {"model": "troubleshooter", "prompt": QUESTION, "type": "web_search", "messages": [{"role": "user", "content": QUESTION}]}
    before = conversations(own)
    for task, field in TASKS.items():
        status, answer = call(f"{base}/api/v1/tasks/{task}/completions", body, {"authorization": f"Bearer {token}"})
        text = answer["choices"][0]["message"]["content"] if status == 200 else ""
        check(f"Open WebUI's task {task} is answered without a model", field in in_json(text), answer)
    check("its tasks are no conversations without a model", conversations(own) == before, conversations(own))


def open_webui(own, base, folder):
    env = {
        "DATA_DIR": str(folder / "data"), "OPENAI_API_BASE_URL": f"{own}/v1", "OPENAI_API_KEY": "none", "ENABLE_OLLAMA_API": "false", "WEBUI_AUTH": "false",
        "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "RAG_EMBEDDING_ENGINE": "openai", "RAG_OPENAI_API_BASE_URL": f"{own}/v1",
        "ANONYMIZED_TELEMETRY": "false", "DO_NOT_TRACK": "true", "WEBUI_SECRET_KEY": "of-this-check-alone", "CORS_ALLOW_ORIGIN": base}
    port = base.rsplit(":", 1)[1]
    return running([CHAT / "open-webui/bin/open-webui", "serve", "--host", "127.0.0.1", "--port", port], folder, env, f"{base}/health")


def main():
    own, proxy, pages = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    port = lambda url: url.rsplit(":", 1)[1]
    database = {"DATABASE_URL": os.environ["DATABASE_URL"], "PORT": port(own), "REGREEN_LOG": "warn"}
    model = {"LITELLM_URL": proxy, "LITELLM_MODEL": "fixed", "LITELLM_API_KEY": "none"}
    serve = [ROOT / "target/debug/regreen", "serve"]
    with tempfile.TemporaryDirectory(prefix="regreen-clients-") as name:
        folder = pathlib.Path(name)
        (folder / "litellm").mkdir()
        (folder / "litellm/settings.yaml").write_text(litellm(own))
        command = [CHAT / "litellm/bin/litellm", "--config", "settings.yaml", "--host", "127.0.0.1", "--port", port(proxy)]
        ready = f"{own}/health/ready"
        with open_webui(own, pages, folder / "open-webui"):
            with running(command, folder / "litellm", {}, f"{proxy}/health/liveliness"), running(serve, folder / "own", {**database, **model}, ready):
                through_litellm(proxy)
                through_aider(own, folder / "aider")
                through_open_webui(own, pages)
            with running(serve, folder / "own", database, ready):
                without_model(own, pages)
    print("The clients work.")


if __name__ == "__main__":
    main()
