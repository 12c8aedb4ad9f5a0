//! A release whose new pods never become ready.

use super::Sample;
use super::writer::Log;
use crate::domain::FailureClass;

const RESOURCES: &[&str] = &[
    "ServiceAccount search/search-api",
    "ServiceAccount search/search-indexer",
    "Secret search/search-tls",
    "ConfigMap search/search-api",
    "ConfigMap search/search-indexer",
    "ConfigMap search/search-error-pages",
    "PersistentVolumeClaim search/search-index",
    "Role search/search-leader",
    "RoleBinding search/search-leader",
    "Service search/search-api",
    "Service search/search-indexer",
    "Deployment search/search-api",
    "StatefulSet search/search-indexer",
    "PodDisruptionBudget search/search-api",
    "HorizontalPodAutoscaler search/search-api",
    "NetworkPolicy search/search-api",
    "Route search/search-api",
    "ServiceMonitor search/search-api",
];

/// Output after the error: Helm's stack trace and the release history.
const AFTERWARDS: &str = "
release search failed, and has been rolled back due to atomic being set
helm.sh/helm/v3/pkg/action.(*Upgrade).failRelease
	helm.sh/helm/v3/pkg/action/upgrade.go:522
helm.sh/helm/v3/pkg/action.(*Upgrade).reportToPerformUpgrade
	helm.sh/helm/v3/pkg/action/upgrade.go:418
runtime.goexit
	runtime/asm_amd64.s:1695
UPGRADE FAILED
main.newUpgradeCmd.func2
	helm.sh/helm/v3/cmd/helm/upgrade.go:236
github.com/spf13/cobra.(*Command).execute
	github.com/spf13/cobra@v1.8.1/command.go:985
main.main
	helm.sh/helm/v3/cmd/helm/helm.go:83
+ helm history search --namespace search --max 3
REVISION	UPDATED                 	STATUS    	CHART       	APP VERSION	DESCRIPTION
41      	Fri Nov 14 10:02:11 2026	superseded	search-7.3.2	7.3.2      	Upgrade complete
42      	Fri Nov 20 09:12:41 2026	failed    	search-7.4.0	7.4.0      	Upgrade \"search\" failed: context deadline exceeded
43      	Fri Nov 20 09:17:44 2026	deployed  	search-7.3.2	7.3.2      	Rollback to 41
+ exit 1
";

impl Log {
    fn helm(&mut self, source: &str, text: &str) -> &mut Self {
        let time = self.time_millis();
        self.line(format!("{source}: 2026-11-20 {time} +0000 UTC [debug] {text}"))
    }

    fn values(&mut self) -> &mut Self {
        self.line("+ cat values-production.yaml");
        for (component, port) in [("api", 8080), ("indexer", 8081)] {
            self.lines(&format!(
                "
{component}:
  image:
    repository: registry.example.com/search/{component}
    tag: 7.4.0
    pullPolicy: IfNotPresent
  replicas: 3
  port: {port}
  resources:
    requests:
      cpu: 250m
      memory: 512Mi
    limits:
      memory: 1Gi
  readinessProbe:
    path: /health/ready
    failureThreshold: 3
  onError: retry
"
            ));
        }
        self
    }

    fn wait_in_vain(&mut self) -> &mut Self {
        self.helm("wait.go:48", "beginning wait for 18 resources with timeout of 5m0s");
        for n in 0..210 {
            self.pass(2_700);
            if n % 7 == 3 {
                self.helm(
                    "ready.go:277",
                    "Service does not have load balancer ingress IP address: search/search-api",
                );
            }
            self.helm(
                "ready.go:303",
                "Deployment is not ready: search/search-api. 1 out of 3 expected pods are ready",
            );
        }
        self.helm("wait.go:66", "wait for resources failed after 5m0s: context deadline exceeded");
        self.helm("upgrade.go:476", "warning: Upgrade \"search\" failed: context deadline exceeded");
        self.helm(
            "upgrade.go:494",
            "Upgrade failed and atomic is set, rolling back to last successful release",
        );
        self
    }

    fn roll_back(&mut self) -> &mut Self {
        self.helm("rollback.go:73", "preparing rollback of search")
            .helm("rollback.go:129", "rolling back search (current: v42, target: v41)");
        for resource in RESOURCES {
            let (kind, name) = resource.split_once(' ').unwrap_or((resource, ""));
            self.helm(
                "client.go:695",
                &format!("Patch {kind} \"{}\" in namespace search", name.trim_start_matches("search/")),
            );
        }
        self.helm("wait.go:48", "beginning wait for 18 resources with timeout of 5m0s")
            .helm("rollback.go:87", "updating status for rolled back release for search");
        self
    }
}

/// `--atomic` rolls back after five minutes; the last lines concern the rollback, not the cause.
pub(super) fn upgrade() -> Sample {
    let mut log = Log::new(12);
    log.checkout("search/deploy").values();
    log.line("+ helm lint charts/search --values values-production.yaml").line("==> Linting charts/search");
    log.line("[INFO] Chart.yaml: icon is recommended").line("1 chart(s) linted, 0 chart(s) failed");
    log.line("+ helm upgrade --install search charts/search --namespace search --values values-production.yaml --atomic --timeout 5m0s --debug");
    log.helm("history.go:56", "getting history for release search")
        .helm("upgrade.go:164", "preparing upgrade for search");
    log.helm("upgrade.go:172", "performing update for search")
        .helm("upgrade.go:361", "creating upgraded release for search");
    log.helm("client.go:386", "checking 18 resources for changes");
    for resource in RESOURCES {
        let (kind, name) = resource.split_once(' ').unwrap_or((resource, ""));
        let name = name.trim_start_matches("search/");
        match log.number(0..3) {
            0 => log.helm("client.go:684", &format!("Looks like there are no changes for {kind} \"{name}\"")),
            _ => log.helm("client.go:695", &format!("Patch {kind} \"{name}\" in namespace search")),
        };
    }
    log.wait_in_vain().roll_back();
    log.line("Error: UPGRADE FAILED: release search failed, and has been rolled back due to atomic being set: context deadline exceeded");
    let time = log.time_millis();
    log.line(format!("helm.go:84: 2026-11-20 {time} +0000 UTC [debug] context deadline exceeded"));
    log.lines(AFTERWARDS);
    Sample {
        slug: "helm-upgrade",
        title: "A Helm upgrade does not become ready",
        pod: "search-deploy-g7h2r-upgrade-pod",
        container: "step-helm",
        image: "registry.example.com/ci/helm:3.16.3",
        memory: "512Mi",
        pipeline: "search-deploy",
        task: "upgrade",
        cause_words: &["UPGRADE FAILED", "search"],
        class: FailureClass::Infrastructure,
        ..Sample::failed(log)
    }
}
