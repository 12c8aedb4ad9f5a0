//! The examples as the programs that read them want them: fields that Tekton knows, variables that are declared, one script.

use crate::support::every;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn example(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The documents of a file.
pub fn documents(name: &str) -> Vec<Value> {
    let text = example(name);
    serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

/// The one of this kind.
pub fn document(name: &str, kind: &str) -> Value {
    documents(name).into_iter().find(|document| document["kind"] == kind).unwrap()
}

/// An object of Kubernetes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct Object<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
}

/// `tekton.dev/v1` Task, the fields in use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskSpec {
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    params: Vec<ParamSpec>,
    #[serde(default)]
    results: Vec<ResultSpec>,
    #[serde(default)]
    volumes: Vec<Volume>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamSpec {
    name: String,
    r#type: ParamType,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    default: Option<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum ParamType {
    String,
    Array,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultSpec {
    name: String,
    r#type: ParamType,
    description: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Step {
    name: String,
    image: String,
    script: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
    #[serde(default)]
    compute_resources: Option<Resources>,
    #[serde(default)]
    security_context: Option<SecurityContext>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: String,
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SecurityContext {
    allow_privilege_escalation: bool,
    capabilities: Capabilities,
    // Where the pod does not say these.
    #[serde(default)]
    run_as_non_root: Option<bool>,
    #[serde(default)]
    run_as_user: Option<u32>,
    #[serde(default)]
    seccomp_profile: Option<Seccomp>,
}

/// A pod's, which is of each of its containers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodSecurityContext {
    run_as_non_root: bool,
    run_as_user: u32,
    seccomp_profile: Seccomp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seccomp {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capabilities {
    drop: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Volume {
    name: String,
    projected: Projected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Projected {
    sources: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Source {
    service_account_token: Token,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Token {
    audience: String,
    path: String,
    expiration_seconds: u32,
}

/// `argoproj.io/v1alpha1` WorkflowTemplate, the fields in use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkflowTemplateSpec {
    templates: Vec<Template>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Template {
    name: String,
    service_account_name: String,
    security_context: PodSecurityContext,
    inputs: Parameters<Input>,
    outputs: Parameters<Output>,
    volumes: Vec<Volume>,
    script: Script,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters<P> {
    parameters: Vec<P>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    description: String,
    default: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct Output {
    name: String,
    value_from: ValueFrom,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct ValueFrom {
    path: String,
    default: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "that it can be read is what is tested")]
struct Script {
    image: String,
    command: Vec<String>,
    env: Vec<Variable>,
    volume_mounts: Vec<Mount>,
    resources: Resources,
    security_context: SecurityContext,
    source: String,
}

/// `argoproj.io/v1alpha1` Workflow, the fields in use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WorkflowSpec {
    entrypoint: String,
    on_exit: String,
    arguments: Parameters<Param>,
    templates: Vec<WorkflowPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkflowPart {
    name: String,
    #[serde(default)]
    container: Option<Value>,
    #[serde(default)]
    steps: Vec<Vec<WorkflowStep>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WorkflowStep {
    name: String,
    when: String,
    template_ref: TemplateRef,
    arguments: Parameters<Param>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateRef {
    name: String,
    template: String,
}

/// `tekton.dev/v1` Pipeline, the fields in use.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PipelineSpec {
    params: Vec<ParamSpec>,
    tasks: Vec<PipelineTask>,
    r#finally: Vec<PipelineTask>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PipelineTask {
    name: String,
    #[serde(default)]
    run_after: Vec<String>,
    #[serde(default)]
    when: Vec<When>,
    #[serde(default)]
    task_ref: Option<Named>,
    #[serde(default)]
    task_spec: Option<TaskSpec>,
    #[serde(default)]
    params: Vec<Param>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    input: String,
    operator: String,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Param {
    name: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PipelineRunSpec {
    pipeline_ref: Named,
    params: Vec<Param>,
    task_run_specs: Vec<TaskRunSpec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TaskRunSpec {
    pipeline_task_name: String,
    service_account_name: String,
}

fn read<S: DeserializeOwned>(name: &str, kind: &str) -> S {
    let object: Object<S> = serde_json::from_value(document(name, kind)).unwrap();
    object.spec
}

/// The names in `$(…)` of a text that Tekton replaces.
fn variables(text: &str) -> Vec<String> {
    let pattern =
        regex::Regex::new(r"\$\(((?:params|tasks|results|context|workspaces|finally)\.[^)]+)\)").unwrap();
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn the_tekton_task_has_fields_that_tekton_knows_and_uses_what_it_declares() {
    let task: TaskSpec = read("tekton/report-failure.yaml", "Task");
    let [step] = &task.steps[..] else { panic!("one step") };
    assert!(variables(&step.script).is_empty(), "a value in a script is code");
    let mut known: Vec<String> = task.params.iter().map(|param| format!("params.{}", param.name)).collect();
    known.extend(task.results.iter().map(|result| format!("results.{}.path", result.name)));
    known.extend(["context.taskRun.namespace".to_owned(), "params.tasks[*]".to_owned()]);
    let used: Vec<String> =
        step.env.iter().map(|set| &set.value).chain(&step.args).flat_map(|text| variables(text)).collect();
    assert!(every(&used, |name| known.contains(name)), "{used:?}");
    for param in task.params.iter().filter(|param| param.name != "tasks") {
        assert!(used.contains(&format!("params.{}", param.name)), "{} is not used", param.name);
    }
    let [volume] = &task.volumes[..] else { panic!("one volume") };
    let [Source { service_account_token: token }] = &volume.projected.sources[..] else {
        panic!("one source")
    };
    assert_eq!((token.audience.as_str(), token.path.as_str()), ("regreen", "token"));
    assert!(token.expiration_seconds >= 600, "Kubernetes gives none for less");
    let [mount] = &step.volume_mounts[..] else { panic!("one mount") };
    assert!(mount.name == volume.name && mount.read_only);
    let file = step.env.iter().find(|set| set.name == "REGREEN_TOKEN_FILE").unwrap();
    assert_eq!(file.value, format!("{}/{}", mount.mount_path, token.path));
    let secure = step.security_context.as_ref().unwrap();
    restricted(secure, secure.run_as_non_root, secure.run_as_user, secure.seccomp_profile.as_ref());
    assert!(step.compute_resources.is_some() && !step.name.is_empty() && task.description.is_some());
    assert!(
        task.results
            .iter()
            .all(|result| result.r#type == ParamType::String && !result.description.is_empty())
    );
}

/// That a namespace with the Pod Security Standard `restricted` takes it.
fn restricted(
    container: &SecurityContext,
    non_root: Option<bool>,
    user: Option<u32>,
    seccomp: Option<&Seccomp>,
) {
    assert!(!container.allow_privilege_escalation && container.capabilities.drop == ["ALL"]);
    // The image itself names no user, which is root.
    assert!(non_root == Some(true) && user.is_some_and(|user| user > 0));
    assert_eq!(seccomp.unwrap().r#type, "RuntimeDefault");
}

/// What a pull request is found by.
fn is_hash(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|value| value.len() == 40 && value.chars().all(|char| char.is_ascii_hexdigit()))
}

#[test]
fn the_argo_template_has_fields_that_argo_knows_and_uses_what_it_declares() {
    let spec: WorkflowTemplateSpec = read("argo/report-failure.yaml", "WorkflowTemplate");
    let [template] = &spec.templates[..] else { panic!("one template") };
    let (pod, script) = (&template.security_context, &template.script);
    restricted(
        &script.security_context,
        Some(pod.run_as_non_root),
        Some(pod.run_as_user),
        Some(&pod.seccomp_profile),
    );
    for input in &template.inputs.parameters {
        let used = format!("{{{{inputs.parameters.{}}}}}", input.name);
        assert!(script.env.iter().any(|set| set.value == used), "{} is not used", input.name);
        assert!(input.default.is_empty() && !input.description.is_empty());
    }
    let account = document("argo/report-failure.yaml", "ServiceAccount");
    assert_eq!(account["metadata"]["name"], template.service_account_name);
    let ([volume], [mount]) = (&template.volumes[..], &script.volume_mounts[..]) else {
        panic!("one volume")
    };
    assert!(mount.name == volume.name && mount.read_only && template.outputs.parameters.len() == 1);
}

#[test]
fn the_argo_workflow_gives_the_template_what_it_wants() {
    let spec: WorkflowTemplateSpec = read("argo/report-failure.yaml", "WorkflowTemplate");
    let workflow: WorkflowSpec = read("argo/workflow.yaml", "Workflow");
    let part = |name: &str| workflow.templates.iter().find(|part| part.name == name).unwrap();
    assert!(part(&workflow.entrypoint).container.is_some());
    let [last] = &part(&workflow.on_exit).steps[..] else { panic!("one group of steps") };
    let [last] = &last[..] else { panic!("one step") };
    assert_eq!(
        (last.template_ref.name.as_str(), &last.template_ref.template),
        (
            document("argo/report-failure.yaml", "WorkflowTemplate")["metadata"]["name"].as_str().unwrap(),
            &spec.templates[0].name
        )
    );
    assert!(last.when == "{{workflow.status}} != Succeeded" && !last.name.is_empty());
    let names = |params: &[Param]| params.iter().map(|param| param.name.clone()).collect::<Vec<_>>();
    let wanted: Vec<String> =
        spec.templates[0].inputs.parameters.iter().map(|input| input.name.clone()).collect();
    assert_eq!(names(&last.arguments.parameters), wanted);
    let known = &workflow.arguments.parameters;
    for param in &last.arguments.parameters {
        let value = param.value.as_str().unwrap();
        let name = value.strip_prefix("{{workflow.parameters.").and_then(|name| name.strip_suffix("}}"));
        assert!(
            name.map_or(!value.contains("{{"), |name| known.iter().any(|param| param.name == name)),
            "{value}"
        );
    }
    assert!(is_hash(&known.iter().find(|param| param.name == "commit").unwrap().value));
}

#[test]
fn the_tekton_pipeline_gives_the_task_what_it_wants() {
    let task: TaskSpec = read("tekton/report-failure.yaml", "Task");
    let pipeline: PipelineSpec = read("tekton/pipeline.yaml", "Pipeline");
    let run: PipelineRunSpec = read("tekton/pipeline.yaml", "PipelineRun");
    let [last] = &pipeline.r#finally[..] else { panic!("one task at last") };
    assert_eq!(last.task_ref.as_ref().unwrap().name, "report-failure");
    let given: BTreeMap<&str, &Value> =
        last.params.iter().map(|param| (param.name.as_str(), &param.value)).collect();
    for param in &task.params {
        let value = given.get(param.name.as_str());
        assert!(value.is_some() || param.default.is_some(), "{} is missing", param.name);
        assert!(
            value.is_none_or(|value| value.is_array() == (param.r#type == ParamType::Array)),
            "{}",
            param.name
        );
        assert!(param.description.is_some());
    }
    assert!(every(given.keys(), |name| task.params.iter().any(|param| param.name == *name)));
    let statuses: Vec<String> =
        pipeline.tasks.iter().map(|task| format!("{0}=$(tasks.{0}.status)", task.name)).collect();
    assert_eq!(given["tasks"], &serde_json::json!(statuses), "each task of the pipeline");
    let [when] = &last.when[..] else { panic!("one condition") };
    assert_eq!(
        (when.input.as_str(), when.operator.as_str(), &when.values[..]),
        ("$(tasks.status)", "in", &["Failed".to_owned()][..])
    );
    for task in &pipeline.tasks {
        assert!(every(&task.task_spec.as_ref().unwrap().steps, |step| step.image.contains(':')));
        assert!(task.run_after.iter().all(|name| pipeline.tasks.iter().any(|other| other.name == *name)));
    }
    assert_eq!(run.pipeline_ref.name, document("tekton/pipeline.yaml", "Pipeline")["metadata"]["name"]);
    let names = |params: &[Param]| params.iter().map(|param| param.name.clone()).collect::<Vec<_>>();
    assert_eq!(
        names(&run.params),
        pipeline.params.iter().map(|param| param.name.clone()).collect::<Vec<_>>()
    );
    assert!(every(&pipeline.params, |param| param.description.is_some()));
    assert!(is_hash(&run.params.iter().find(|param| param.name == "commit").unwrap().value));
    let [own] = &run.task_run_specs[..] else { panic!("one task of its own") };
    assert_eq!(
        (&own.pipeline_task_name, own.service_account_name.as_str()),
        (&last.name, "regreen-reporter")
    );
}

#[test]
fn accounts_may_look_and_no_more() {
    let may = |group: &str, resource: &str, verbs: &[&str]| serde_json::json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    for (file, rules) in [
        ("tekton/report-failure.yaml", vec![may("tekton.dev", "taskruns", &["get", "list"])]),
        (
            "argo/report-failure.yaml",
            vec![
                may("", "pods", &["list"]),
                may("argoproj.io", "workflows", &["get"]),
                may("argoproj.io", "workflowtaskresults", &["create", "patch"]),
            ],
        ),
    ] {
        let role = document(file, "Role");
        assert_eq!(role["rules"], Value::from(rules));
        let binding = document(file, "RoleBinding");
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        assert_eq!(binding["subjects"][0]["name"], document(file, "ServiceAccount")["metadata"]["name"]);
    }
}

#[test]
fn the_script_within_the_manifests_is_the_script() {
    let script = example("report-failure.sh");
    let tekton: TaskSpec = read("tekton/report-failure.yaml", "Task");
    let argo = document("argo/report-failure.yaml", "WorkflowTemplate")["spec"]["templates"][0].clone();
    let argo = argo["script"]["source"].as_str().unwrap();
    // Argo would replace these.
    assert!(!argo.contains("{{"));
    for text in [&tekton.steps[0].script, argo] {
        let (_, rest) = text.split_once("<<'END_OF_REPORT_FAILURE'\n").unwrap();
        let (embedded, _) = rest.split_once("END_OF_REPORT_FAILURE\n").unwrap();
        assert!(embedded == script, "put examples/report-failure.sh into the manifests anew");
    }
}

#[test]
fn the_readme_of_the_examples_knows_each_file() {
    let readme = example("README.md");
    let mut folders = vec![folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(self::folder()).unwrap().display().to_string();
            assert!(name == "README.md" || readme.contains(&format!("`{name}`")), "{name}");
            let text = std::fs::read_to_string(&path).unwrap();
            let mut keys = text.lines().filter(|line| line.contains("regreen token create"));
            assert!(keys.all(|line| line.contains("--expires 365d")), "{name}: a key ends unnoticed");
            let comment = text.lines().take_while(|line| line.starts_with(['#', '/']));
            let comment: String = comment.collect::<Vec<_>>().join("\n");
            assert!(name == "README.md" || comment.contains("Set:") || name == "report-failure.sh", "{name}");
        }
    }
}
