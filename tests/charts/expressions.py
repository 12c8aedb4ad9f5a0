"""Looks at PromQL: each metric has to exist, and each label to be one of its own or of whoever scrapes it."""

import json
import pathlib
import re

# What Prometheus puts to each series of a target.
TARGET = {"job", "instance", "namespace", "pod", "service", "endpoint", "container"}
WORDS = set("and or unless by without on ignoring group_left group_right bool offset".split())
FUNCTIONS = set("absent avg count histogram_quantile increase label_values max min rate sum topk".split())


def metrics():
    """Labels of every series there is, by its name; `le` is what a histogram's name has."""
    known = json.loads(pathlib.Path(__file__).with_name("metrics.json").read_text())
    series = {"up": set()}
    for name, labels in known.items():
        plain = set(labels) - {"le"}
        if "le" in labels:
            series |= {f"{name}_bucket": {*plain, "le"}, f"{name}_sum": plain, f"{name}_count": plain}
        else:
            series[name] = plain
    return series


def mistakes(expression, series):
    """What an expression asks for that there is not."""
    found = []
    text = re.sub(r"\[[^\]]*\]", " ", expression)
    used = set()
    for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}", text):
        used |= series.get(name, set())
        for label in re.findall(r'([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"', matchers):
            if label not in series.get(name, set()) | TARGET:
                found.append(f"{name} has no label {label}")
    text = re.sub(r"\{[^}]*\}", " ", text)
    groups = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", text)
    text = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", text)
    text = re.sub(r"\boffset\s+\w+|\"[^\"]*\"|\$\w+", " ", text)
    for name in re.findall(r"(?<![\w.])[a-zA-Z_:][\w:]*", text):
        if name in series:
            used |= series[name]
        elif name not in WORDS | FUNCTIONS:
            found.append(f"there is no metric {name}")
    for label in re.findall(r"\w+", " ".join(groups)):
        if label not in used | TARGET:
            found.append(f"none of its metrics has a label {label}")
    return found
