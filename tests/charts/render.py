"""Every chart with each of its values files. As a program: writes them as plain manifests to charts/rendered."""

import copy
import sys

import yaml

from helm import ROOT, Helm

CHARTS = ["regreen", "mcp-openshift", "mcp-gitea", "librechat"]
RENDERED = ROOT / "charts/rendered"


def values_files(chart):
    folder = ROOT / "charts" / chart
    return [folder / "values.yaml", *sorted(folder.glob("values-*.yaml"))]


def releases():
    """What Helm makes of each, by the name of its plain manifest."""
    with Helm() as helm:
        return {chart + file.stem.removeprefix("values"): install(helm, chart, file)
                for chart in CHARTS for file in values_files(chart)}


def install(helm, chart, file):
    return helm.install(ROOT / "charts" / chart, yaml.safe_load(file.read_text()))


class Dumper(yaml.SafeDumper):
    """Texts of several lines as such, nothing by reference."""

    def ignore_aliases(self, data):
        return True


def text(dumper, value):
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, text)


def plain(name, release):
    """A release for `kubectl apply`: its hooks are objects as all others, its tests are left out."""
    objects = copy.deepcopy(release.objects + release.hooks)
    for found in objects:
        notes = found["metadata"].get("annotations", {})
        for key in [key for key in notes if key.startswith("helm.sh/")]:
            del notes[key]
        if not notes:
            found["metadata"].pop("annotations", None)
    head = f"# Made by `make render` from the charts, for the namespace regreen: {name}\n---\n"
    return head + yaml.dump_all(objects, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)


def drift(made):
    """Names of manifests that are not what the charts make."""
    wanted = {f"{name}.yaml": plain(name, release) for name, release in made.items()}
    there = {file.name: file.read_text() for file in RENDERED.glob("*.yaml")}
    return wanted, sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


if __name__ == "__main__":
    wanted, changed = drift(releases())
    RENDERED.mkdir(exist_ok=True)
    for name in changed:
        (RENDERED / name).unlink(missing_ok=True)
        if name in wanted:
            (RENDERED / name).write_text(wanted[name])
    print(f"charts/rendered: {len(changed)} of {len(wanted)} changed", file=sys.stderr)
