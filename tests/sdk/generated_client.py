"""Calls a running service by the client that openapi-python-client made of its description.

Arguments: the folder of the client, the service's URL, and a namespace and pod to report."""

import compileall
import importlib
import json
import pkgutil
import sys
import uuid
import warnings

folder, base, namespace, pod = sys.argv[1:]
warnings.simplefilter("error")
sys.dont_write_bytecode = True
if not compileall.compile_dir(folder, quiet=1, legacy=False):
    sys.exit("the client does not compile")
sys.path.insert(0, folder)
package = importlib.import_module("regreen_client")
modules = [module.name for module in pkgutil.walk_packages(package.__path__, "regreen_client.")]
for module in modules:
    importlib.import_module(module)

from regreen_client import AuthenticatedClient
from regreen_client.api.incidents import get_incident, list_incidents
from regreen_client.api.mcp_servers import list_mcp_servers
from regreen_client.api.reports import get_report, report_failure
from regreen_client.models import (
    FailureClass,
    IncidentDetail,
    IncidentPage,
    ListIncidentsStatus,
    Problem,
    ReportDetail,
    ReportFailureRequest,
    ReportFailureResponse,
    Servers,
)

with AuthenticatedClient(base_url=base, token="none", timeout=60) as client:
    reported = report_failure.sync(client=client, body=ReportFailureRequest(namespace=namespace, pod_name=pod))
    assert isinstance(reported, ReportFailureResponse), reported
    report = get_report.sync(reported.report_id, client=client)
    assert isinstance(report, ReportDetail), report
    page = list_incidents.sync(client=client, status=ListIncidentsStatus.OPEN)
    assert isinstance(page, IncidentPage), page
    (incident,) = page.incidents
    assert isinstance(incident.class_, FailureClass), incident
    detail = get_incident.sync(incident.id, client=client)
    assert isinstance(detail, IncidentDetail), detail
    servers = list_mcp_servers.sync(client=client)
    assert isinstance(servers, Servers), servers
    missing = get_report.sync_detailed(uuid.UUID(int=0), client=client)
    assert isinstance(missing.parsed, Problem) and missing.status_code == 404, missing

print(
    json.dumps(
        {
            "modules": len(modules),
            "result": reported.result,
            "report": str(report.id),
            "incident": incident.title,
            "seen": [str(seen.id) for seen in detail.reports],
            "servers": [[server.name, server.transport, server.state.value, server.tools] for server in servers.servers],
            "problem": missing.parsed.detail,
        }
    )
)
