"""A real small model behind the product, in each mode of `model.tool_calls`: ten builds and four questions, beside the rules alone.
`make test-model` installs model and server. Prints what was right, what held, turns, tokens and seconds; fails where a sentence without
grounds gets out, or where model and rules together are right less often than the rules alone."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/clients"))
from programs import call, free_port, running  # noqa: E402

CASES = ROOT / "tests/data/failures"
FOLDER = ROOT / ".tools/model"
MODELS = {"qwen": FOLDER / "qwen.gguf", "smollm": FOLDER / "smollm.gguf"}
CONTEXT = 4096
QUESTIONS = [
    "Why did this fail? Cite the line.",
    "Which line of the evidence tells the cause?",
    "What should I do first?",
    "Does a runbook describe this failure?",
]
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]{3,}")
# Words that every diagnosis may have.
PLAIN = set("""that this with from have which because cause failed failure fails line lines error errors build there where when does step script
    file module command because found find missing cannot could should been being were into itself test tests run running code their they
    variable value exit status program using used uses correct correctly ensure check make sure defined define installed install""".split())


def cases():
    read = [json.loads(line) for line in (CASES / "cases.jsonl").read_text().splitlines()]
    return [case for case in read if "mentions" in case]


def model_server(model, port):
    serve = [FOLDER / "server/bin/python", ROOT / "tests/model/serve.py", MODELS[model], str(port), str(CONTEXT)]
    return serve, {"OMP_WAIT_POLICY": "passive"}


def settings(database, port, model=None, way=None):
    env = {"DATABASE_URL": database, "PORT": str(port), "REGREEN_LOG": "warn", "REGREEN_WAIT": "30m"}
    if model:
        env |= {
            "REGREEN_MODEL_URL": model, "REGREEN_MODEL": "small", "REGREEN_MODEL_TOOL_CALLS": way, "REGREEN_MODEL_TEMPERATURE": "0",
            # What the server's context has room for beside an answer.
            "REGREEN_AGENT_CONTEXT_TOKENS": "3000", "REGREEN_MODEL_MAX_OUTPUT_TOKENS": "600", "REGREEN_MODEL_REQUEST_TIMEOUT": "20m",
            "REGREEN_MODEL_IDLE_TIMEOUT": "20m", "REGREEN_AGENT_WALL_TIME": "25m", "REGREEN_AGENT_TURNS": "3", "REGREEN_MODEL_MAX_ATTEMPTS": "1"}
    return env


def ungrounded(text, grounds):
    """Words of a text, besides plain ones, that its grounds do not have in any form."""
    words = {word.lower().strip("./-_") for word in WORD.findall(text)} - PLAIN
    return sorted(word for word in words if word[:5] not in grounds and word not in grounds)


def diagnosed(own, case):
    log = (CASES / "logs" / f"{case['name']}.log").read_text()
    body = {"namespace": "ci", "pod_name": case["name"], "task": case["name"], "log": log}
    began = time.monotonic()
    status, answer = call(f"{own}/report-failure", body, timeout=1900)
    took = time.monotonic() - began
    if status != 200:
        raise SystemExit(f"{case['name']}: {status} {answer}")
    report = call(f"{own}/api/reports/{answer['report_id']}")[1]
    incident = call(f"{own}/api/incidents/{report['incident_id']}")[1]
    found = incident.get("diagnosis") or incident["incident"]["diagnosis"]
    said = f"{found['title']}\n{found['cause']}"
    # A title that quotes the line while the cause is not known names no cause.
    right = found["class"] != "unknown" and all(re.search(pattern, said, re.IGNORECASE) for pattern in case["mentions"])
    runs = report["runs"]
    verified = [claim for claim in found["claims"] if claim["verified"]]
    return {
        "name": case["name"], "analyst": found["analyst"], "right": right, "said": said, "steps": found["next_steps"], "verified": len(verified),
        "claims": len(found["claims"]) + found.get("left_out", 0), "turns": sum(run["turns"] for run in runs if run["analyst"] != "rules"),
        "tokens": sum(run["usage"]["input_tokens"] + run["usage"]["output_tokens"] for run in runs),
        "stops": [run["stop_reason"] for run in runs], "seconds": took, "note": found.get("note"), "log": log, "incident": report["incident_id"],
        "calls": [f"{tool['name']}{' !' if tool['failed'] else ''}" for run in runs for tool in run["tool_calls"] if run["analyst"] != "rules"]}


def asked(own, incident, question):
    began = time.monotonic()
    status, answer = call(f"{own}/api/chat", {"incident_id": incident, "message": question}, timeout=1900)
    if status != 200:
        raise SystemExit(f"{question}: {status} {answer}")
    message = answer["message"]
    return {
        "author": message["author"], "text": message["text"], "cited": [cited["verified"] for cited in message["citations"]],
        "not_found": message["not_found"], "tokens": sum(answer["usage"].values()), "seconds": time.monotonic() - began}


def row(name, found, right, own=None):
    count = len(found)
    used = call(f"{own}/api/usage")[1]["total"] if own else {}
    cached = used.get("cached_tokens", 0) / max(used.get("input_tokens", 0), 1)
    total = lambda key: sum(one[key] for one in found)
    print(f"| {name} | {right} of {count} | {total('verified')} of {total('claims')} | {total('turns') / count:.1f} | {total('tokens') / count:.0f} | "
          f"{cached:.2f} | {total('seconds') / count:.0f} |", flush=True)


def look(own, way, chosen, show, known=None):
    """Every build through the product; the ungrounded sentences among what was published in the model's name. `known` is what the rules
    said of the same builds: words that people wrote into runbooks."""
    found, wrong = [], []
    for index, case in enumerate(chosen):
        one = diagnosed(own, case)
        found.append(one)
        if show:
            print(f"  {way} {one['name']}: {one['analyst']}, {'right' if one['right'] else 'not right'}, {one['verified']}/{one['claims']} held, "
                  f"{one['turns']} turns {one['calls']}, {one['stops']}, {one['tokens']} tokens, {one['seconds']:.0f} s\n      {one['said']!r}\n"
                  f"      {one['steps']}\n      {one['note'] or ''}", flush=True)
        if one["analyst"] != "rules":
            told = known[index]["said"] if known else ""
            strange = ungrounded(one["said"], f"{one['log']}\n{one['name']}\n{told}".lower())
            if one["verified"] == 0 or len(strange) > 4:
                wrong.append((one["name"], one["said"], strange))
    return found, wrong


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", choices=MODELS, default="qwen")
    options.add_argument("--url", help="an endpoint that runs, in place of a model of ours; any name of a model does")
    options.add_argument("--ways", default="native,schema,text")
    options.add_argument("--builds", type=int, default=10)
    options.add_argument("--questions", type=int, default=len(QUESTIONS))
    options.add_argument("--show", action="store_true", help="print each diagnosis")
    options = options.parse_args()
    base, chosen = os.environ["DATABASE_URL"], cases()[:options.builds]
    program, problems = [ROOT / "target/debug/regreen", "serve"], []
    print("| analyst | right | claims that held | turns | tokens | cached | seconds |\n| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="regreen-model-") as name:
        folder = pathlib.Path(name)

        def served(way, model):
            port = free_port()
            database = f"{base.rsplit('/', 1)[0]}/{fresh(base, f'model_{way}')}"
            own = f"http://127.0.0.1:{port}"
            return own, running(program, folder / way, settings(database, port, model, way), f"{own}/health/ready")

        own, server = served("rules", None)
        with server:
            rules, _ = look(own, "rules", chosen, options.show)
        alone = sum(one["right"] for one in rules)
        row("rules", rules, alone)
        port = free_port()
        serve, env = model_server(options.model, port)
        model = options.url or f"http://127.0.0.1:{port}"
        with contextlib.nullcontext() if options.url else running(serve, folder / "model", env, f"{model}/v1/models"):
            for way in options.ways.split(","):
                own, server = served(way, model)
                with server:
                    both, wrong = look(own, way, chosen, options.show, rules)
                    by_model = sum(one["right"] for one in both if one["analyst"] != "rules")
                    row(f"model, {way}", both, by_model, own)
                    together = sum(one["right"] for one in both)
                    row(f"both, {way}", both, together, own)
                    problems += [f"{way} {name}: {said!r} has {strange}" for name, said, strange in wrong]
                    if together < alone:
                        problems.append(f"{way}: right in {together}, the rules alone in {alone}")
                    for question in QUESTIONS[:options.questions]:
                        told = asked(own, both[0]["incident"], question)
                        print(f"  {way} {question!r}: {told['author']}, {sum(told['cited'])} of {len(told['cited'])} citations hold, {told['tokens']} tokens, "
                              f"{told['seconds']:.0f} s\n      {told['text'][:400]!r} {told['not_found']}", flush=True)
                        if not told["text"].strip():
                            problems.append(f"{way} {question!r}: an empty answer")
    if problems:
        raise SystemExit("FAILED\n" + "\n".join(problems))
    print("No sentence without grounds got out.")


def fresh(base, name):
    """A database of its own."""
    psql = pathlib.Path(os.environ["REGREEN_TEST_PROGRAMS"]) / "psql"
    subprocess.run([psql, base, "-qc", f"create database {name}"], check=True)
    return name


if __name__ == "__main__":
    main()
