"""Holds the objects of examples/tekton against Tekton's own models, field by field.

These are of its Python SDK 0.2.0, made of the OpenAPI document of `tekton.dev/v1beta1` in 2021: no package registry carries
the CRDs of `tekton.dev/v1`, nor a newer SDK. What v1 renamed, added or took out stands in `V1`, as far as the examples have
it or are likely to; any other newer field is refused. What is Kubernetes' own is held against its schemas.
"""

import copy
import importlib
import pathlib
import re
import sys
import types

import jsonschema
import kubernetes_validate.utils as schemas
import yaml
from referencing import Registry, Resource

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples/tekton"
# Later ones have more fields.
OLDEST = "1.28"
DEFINITIONS = f"kubernetes-json-schema/v{OLDEST}.0-local-strict/_definitions.json"
PLAIN = {"str": str, "int": int, "bool": bool, "V1Duration": str, "K8sIoApimachineryPkgRuntimeRawExtension": dict}
# Fields that v1 has otherwise, by model: the attribute of one that was renamed, the type of one that was added, None for one
# that is no more.
V1 = {
    "V1beta1Step": {"computeResources": "resources", "resources": None},
    "V1beta1TaskResult": {"type": "str"},
    "V1beta1TaskSpec": {"resources": None},
    "V1beta1PipelineSpec": {"resources": None},
    "V1beta1PipelineRunSpec": {"serviceAccountName": None, "podTemplate": None, "timeout": None},
    "V1beta1PipelineTaskRunSpec": {"serviceAccountName": "task_service_account_name", "taskServiceAccountName": None,
                                   "podTemplate": "task_pod_template", "taskPodTemplate": None},
}
DELETED = object()
# What is wrong: of which kind, where, and what stands there.
WRONG = [
    ("Task", ["spec", "step"], []),
    ("Task", ["spec", "steps"], {}),
    ("Task", ["spec", "steps", 0, "args"], "$(params.tasks[*])"),
    ("Task", ["spec", "steps", 0, "resources"], {"limits": {"memory": "1Gi"}}),
    ("Task", ["spec", "steps", 0, "computeResources", "limit"], {"memory": "1Gi"}),
    ("Task", ["spec", "steps", 0, "env", 0, "valeu"], "x"),
    ("Task", ["spec", "steps", 0, "env", 0, "value"], 600),
    ("Task", ["spec", "steps", 0, "volumeMounts", 0, "mountPath"], DELETED),
    ("Task", ["spec", "steps", 0, "securityContext", "runAsNonRoot"], "true"),
    ("Task", ["spec", "volumes", 0, "projected", "sources", 0, "serviceAccountToken", "expirationSeconds"], "1h"),
    ("Task", ["spec", "params", 0, "name"], DELETED),
    ("Task", ["spec", "params", 0, "default"], 5),
    ("Task", ["spec", "results", 0, "type"], ["string"]),
    ("Task", ["metadata", "label"], {}),
    ("Task", ["apiVersion"], "tekton.dev/v1beta1"),
    ("Pipeline", ["spec"], DELETED),
    ("Pipeline", ["spec", "finaly"], []),
    ("Pipeline", ["spec", "tasks", 1, "runAfter"], "build"),
    ("Pipeline", ["spec", "tasks", 1, "retries"], True),
    ("Pipeline", ["spec", "tasks", 0, "taskSpec", "steps", 0, "scripts"], "true"),
    ("Pipeline", ["spec", "finally", 0, "when", 0, "operator"], DELETED),
    ("Pipeline", ["spec", "finally", 0, "taskRef", "nmae"], "report-failure"),
    ("Pipeline", ["spec", "finally", 0, "params", 0, "value"], DELETED),
    ("PipelineRun", ["spec", "taskRunSpecs", 0, "taskServiceAccountName"], "regreen-reporter"),
    ("PipelineRun", ["spec", "serviceAccountName"], "regreen-reporter"),
    ("PipelineRun", ["spec", "pipelineRef"], "checkout"),
]


def sdk():
    """The models alone: the package itself wants clients of HTTP and Kubernetes."""
    (folder,) = [path for path in map(pathlib.Path, sys.path) if (path / "tekton_pipeline").is_dir()]
    package, settings = types.ModuleType("tekton_pipeline"), types.ModuleType("tekton_pipeline.configuration")
    package.__path__ = [str(folder / "tekton_pipeline")]
    settings.Configuration = lambda: types.SimpleNamespace(client_side_validation=True)
    sys.modules |= {package.__name__: package, settings.__name__: settings}
    return importlib.import_module("tekton_pipeline.models")


class Tekton:
    def __init__(self):
        self.models = sdk()
        kubernetes = schemas.schema_contents(DEFINITIONS, OLDEST)
        self.definitions, self.address = kubernetes["$defs"], kubernetes["$id"]
        self.registry = Resource.from_contents(kubernetes) @ Registry()

    def mistakes(self, found):
        if found["apiVersion"] != "tekton.dev/v1":
            yield f"apiVersion: {found['apiVersion']} is not tekton.dev/v1"
        for part in {"metadata", "spec"} - found.keys():
            yield f"{part} is missing"
        yield from self.fits(found, f"V1beta1{found['kind']}", found["kind"])

    def fits(self, value, kind, place):
        several = re.fullmatch(r"list\[(.*)\]|dict\(str, (.*)\)", kind)
        if several:
            inner, wanted = several[1] or several[2], list if several[1] else dict
            if not isinstance(value, wanted):
                yield f"{place}: {value!r} is no {wanted.__name__}"
                return
            for key, item in enumerate(value) if wanted is list else value.items():
                yield from self.fits(item, inner, f"{place}[{key!r}]")
        elif kind == "V1beta1ArrayOrString":
            # The document has the struct of Go; it is written as one or the other.
            yield from self.fits(value, "list[str]" if isinstance(value, list) else "str", place)
        elif kind in PLAIN:
            if type(value) is not PLAIN[kind]:
                yield f"{place}: {value!r} is no {kind}"
        elif hasattr(self.models, kind):
            yield from self.model(value, kind, place)
        else:
            yield from self.of_kubernetes(value, kind, place)

    def model(self, value, kind, place):
        if not isinstance(value, dict):
            yield f"{place}: {value!r} is no {kind}"
            return
        model, v1, given = getattr(self.models, kind), V1.get(kind, {}), {}
        attributes = {name: attribute for attribute, name in model.attribute_map.items()} | v1
        for name, item in value.items():
            attribute = attributes.get(name)
            if attribute is None:
                yield f"{place}: there is no field {name}"
            elif attribute in model.openapi_types:
                given[attribute] = item
                yield from self.fits(item, model.openapi_types[attribute], f"{place}.{name}")
            else:
                yield from self.fits(item, attribute, f"{place}.{name}")
        # By its setters: its constructor takes what Go has for a text that is missing.
        made = object.__new__(model)
        made.local_vars_configuration = sys.modules["tekton_pipeline.configuration"].Configuration()
        for attribute in model.openapi_types:
            try:
                setattr(made, attribute, given.get(attribute))
            except ValueError as error:
                yield f"{place}: {error}"

    def of_kubernetes(self, value, kind, place):
        group = "io.k8s.apimachinery.pkg.apis.meta.v1" if kind == "V1ObjectMeta" else "io.k8s.api.core.v1"
        name = f"{group}.{kind.removeprefix('V1')}"
        if name not in self.definitions:
            raise KeyError(f"{place}: neither Tekton nor Kubernetes knows {kind}")
        schema = {"$ref": f"{self.address}#/$defs/{name}"}
        for error in jsonschema.Draft202012Validator(schema, registry=self.registry).iter_errors(value):
            yield f"{place}{error.json_path[1:]}: {error.message}"


def changed(found, path, value):
    found = copy.deepcopy(found)
    place = found
    for key in path[:-1]:
        place = place[key]
    if value is DELETED:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return found


def examples_fit_tekton(_):
    tekton, known, wrong = Tekton(), {}, []
    for file in sorted(EXAMPLES.glob("*.yaml")):
        for found in yaml.safe_load_all(file.read_text()):
            if found["apiVersion"].startswith("tekton.dev/"):
                known[found["kind"]] = found
                wrong += [f"{file.name}: {mistake}" for mistake in tekton.mistakes(found)]
    yield from wrong
    # That the check sees something, in what is right else.
    for kind, path, value in WRONG if not wrong else []:
        if not list(tekton.mistakes(changed(known[kind], path, value))):
            yield f"{kind} {path}: {'nothing' if value is DELETED else repr(value)} is taken"
