//! Checks next steps: names and commands have to come from the evidence or a runbook, or be read-only; steps must not
//! destroy anything or lead to foreign addresses.

use super::words::{self, Meaning};
use super::{Sources, names};
use crate::clock::{Deadline, DeadlinePassed};
use regex::Regex;
use std::sync::LazyLock;

/// Actions that destroy or reveal something, disable protection, or run downloaded code. Only a runbook may recommend them.
static DESTRUCTIVE: LazyLock<Regex> = LazyLock::new(|| {
    let patterns = [
        r"\brm\s+-|\brmdir\b|\bunlink\b|\bshred\b|\bmkfs|\bdd\s+(?:if|of)=|\bwipefs\b|\bfdisk\b|\bdel\s+/",
        r"\b(?:kubectl|oc|helm|terraform|docker|podman|git|tkn|argocd|flux|aws|gcloud|az)\b[^.;]*\b(?:delete|destroy|uninstall|drain|cordon|prune|purge|rmi|rm|replace|scale|--force|-f\s+https?|reset\s+--hard|push\s+(?:-f|--force|--delete)|clean\s+-)",
        r"\b(?:drop|truncate)\s+(?:table|database|schema|index|user|role)\b|\bdelete\s+from\b",
        r"\bchmod\s+(?:-R\s+)?0?777\b|\bchown\s+-R\b|\bsudo\b|\bkill\s+-9|\bkillall\b|\bpkill\b|\bshutdown\b|\breboot\b|\bhalt\b|\bpoweroff\b",
        r"\|\s*(?:sudo\s+)?(?:ba|z|da|k)?sh\b|\|\s*(?:python|perl|node|ruby)|\beval\b|\bbase64\s+(?:-d|--decode)|<\(\s*curl|\biex\b|invoke-(?:expression|webrequest)",
        r"--no-verify\b|--insecure\b|--privileged\b|\bsetenforce\s+0|verify[_-]?(?:ssl|tls)?\s*[=:]\s*false|NODE_TLS_REJECT_UNAUTHORIZED|\bcluster-admin\b",
        r"\b(?:delete|drop|wipe|erase|destroy|purge|truncate|remove|format)\b[^.;]{0,40}\b(?:namespaces?|clusters?|databases?|volumes?|pvcs?|nodes?|disks?|repositor(?:y|ies)|branch(?:es)?|production|all|everything|data|backups?|secrets?)\b",
        r"\b(?:disable|turn off|switch off|skip|bypass|ignore)\b[^.;]{0,40}\b(?:tls|ssl|certificates?|verification|authentication|authori[sz]ation|security|scan(?:s|ner)?|firewall|selinux|policy|policies|rbac|tests?|checks?|approvals?)\b",
        r"\b(?:send|post|e-?mail|upload|share|paste|publish|expose|print|echo)\b[^.;]{0,40}\b(?:secrets?|tokens?|passwords?|credentials?|keys?|kubeconfig)\b",
        r"\bforce[- ]push|\bgrant\b[^.;]{0,40}\badmin|\bwork ?around the policy",
    ];
    Regex::new(&format!("(?i)(?:{})", patterns.join("|"))).expect("a fixed pattern")
});
static URL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)\b[a-z][a-z0-9+.-]*://[^\s`'"<>)\]]+|\bwww\.[^\s`'"<>)\]]+"#).expect("a fixed pattern")
});
/// Commands that download, install or run content from elsewhere.
static FETCHES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:curl|wget|fetch|download|clone|install|pip3?|npm|npx|apply|docker|podman|run|bash|sh|python3?|add|pull|load)\b")
        .expect("a fixed pattern")
});
static CODE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"`([^`]{1,400})`").expect("a fixed pattern"));
/// Commands permitted without a source: they are read-only, or build and test the existing code.
const COMMANDS: &str = " kubectl:get,describe,logs,top,explain,events,auth,version,config oc:get,describe,logs,status,explain,whoami,adm \
    git:status,log,diff,show,blame,fetch,branch,submodule,remote,merge-base,ls-files,config npm:ls,view,outdated,audit,ci,install,run,test,config \
    pnpm:install,why,list yarn:install,why,list cargo:build,check,test,fmt,clippy,update,tree,doc go:build,test,vet,mod,list,env \
    mvn:verify,test,compile,package,dependency:tree gradle:build,test,check,dependencies pip:check,list,show,index,install,download,freeze \
    python:-m python3:-m make:* pytest:* tox:* helm:lint,template,get,list,history,status,show docker:build,pull,inspect,images,logs,info \
    podman:build,pull,inspect,images,logs,info buildah:build,images terraform:plan,validate,fmt,show,init tkn:* df:* du:* free:* ls:* cat:* \
    head:* tail:* grep:* less:* ps:* env:* printenv:* id:* date:* uname:* ulimit:* which:* file:* stat:* nslookup:* dig:* host:* ping:* \
    openssl:s_client,x509,verify ss:* lsof:* journalctl:* shellcheck:* hadolint:* black:* ruff:* eslint:* prettier:* gofmt:* bundle:install,update \
    composer:install,update,validate nginx:-t ansible-playbook:--check,--syntax-check tsc:* ";

/// The basis that steps are checked against.
pub(super) struct Steps<'a> {
    /// All texts that the analyst received.
    sources: &'a [&'a str],
    /// The runbooks among the sources, and for each its text in one lower-case line and its meaning.
    guidance: &'a [&'a str],
    said: Vec<(String, Meaning)>,
    /// Meaning of the cited lines, the title and the cause.
    found: Meaning,
}

impl<'a> Steps<'a> {
    pub(super) fn new(sources: &'a [&'a str], guidance: &'a [&'a str], found: &str) -> Self {
        let said = guidance.iter().map(|runbook| (squeeze(runbook), Meaning::of(runbook))).collect();
        Self { sources, guidance, said, found: Meaning::of(found) }
    }

    /// Returns the reason why a step is rejected, if any.
    pub(super) fn problem(&self, step: &str, deadline: &Deadline) -> Result<Option<String>, DeadlinePassed> {
        deadline.check()?;
        let said = squeeze(step);
        if said.len() > 12 && self.said.iter().any(|(runbook, _)| runbook.contains(&said)) {
            return Ok(None);
        }
        if DESTRUCTIVE.is_match(step) {
            return Ok(Some(
                "it destroys, gives away or switches off something, and no runbook says so".to_owned(),
            ));
        }
        for url in URL.find_iter(step) {
            let url = url.as_str().trim_end_matches(['.', ',', ';', ':']);
            let is_told = names::is_known(url, self.guidance);
            if !is_told && (FETCHES.is_match(step) || !names::is_known(url, self.sources)) {
                return Ok(Some(format!("it leads to a foreign address: `{url}`")));
            }
        }
        let unknown = names::unknown(step, self.sources, deadline)?;
        if let Some(name) = unknown.first() {
            return Ok(Some(format!("it names what neither the evidence nor a runbook has: `{name}`")));
        }
        for code in CODE.captures_iter(step) {
            if let Some(problem) = self.command(code[1].trim()) {
                return Ok(Some(problem));
            }
        }
        Ok(self.subject(step))
    }

    /// Returns the reason why a command is rejected, if any.
    fn command(&self, command: &str) -> Option<String> {
        let mut words = command.trim_start_matches(['$', ' ']).split_whitespace();
        let (program, first) = (words.next()?, words.next());
        if first.is_none() || names::is_known(command, self.sources) {
            return None;
        }
        let known = COMMANDS.split(' ').filter_map(|known| known.split_once(':'));
        let may = known.filter(|(name, _)| *name == program).any(|(_, verbs)| {
            verbs == "*" || first.is_some_and(|first| verbs.split(',').any(|verb| verb == first))
        });
        if !may || command.contains(['|', ';', '&', '>', '<', '$']) {
            return Some(format!("neither the evidence nor a runbook has the command `{command}`"));
        }
        // The objects of the command have to be known too.
        let objects = first.into_iter().chain(words).skip(1);
        let stranger = objects
            .filter(|word| !word.starts_with('-') && word.chars().any(char::is_alphabetic))
            .find(|word| !names::is_known(word, self.sources) && !is_common(word));
        stranger.map(|word| format!("`{word}` in a command comes from neither the evidence nor a runbook"))
    }

    /// Rejects a step that is unrelated to the finding, or uses words without a source.
    fn subject(&self, step: &str) -> Option<String> {
        let plain = words::besides_ideas(step);
        let foreign: Vec<&String> = plain
            .iter()
            .filter(|(stem, word)| !words::is_of_the_trade(stem) && !names::has_word(word, self.sources))
            .map(|(_, word)| word)
            .collect();
        if let Some(word) = foreign.first().filter(|_| foreign.len() * 6 > plain.len()) {
            return Some(format!("nothing in the evidence speaks of `{word}`"));
        }
        let step = Meaning::of(step);
        let about = step.all();
        let shared = |with: &Meaning| about.iter().filter(|one| with.has(one)).count();
        let in_runbook = self.said.iter().any(|(_, runbook)| shared(runbook) * 2 > about.len());
        (shared(&self.found) == 0 && !in_runbook)
            .then(|| "it has nothing to do with what was found".to_owned())
    }
}

fn is_common(word: &str) -> bool {
    const COMMON: [&str; 24] = [
        "pod",
        "pods",
        "events",
        "node",
        "nodes",
        "deployment",
        "deployments",
        "secret",
        "configmap",
        "quota",
        "pvc",
        "build",
        "test",
        "install",
        "all",
        "head",
        "origin",
        "main",
        "master",
        "tidy",
        "run",
        "can-i",
        "update",
        "verify",
    ];
    COMMON.contains(&word.to_lowercase().as_str())
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Returns the accepted steps, and the problems of the others.
pub(super) fn checked(
    steps: &[String],
    sources: &impl Sources,
    all: &[&str],
    found: &str,
    deadline: &Deadline,
) -> Result<(Vec<String>, Vec<String>), DeadlinePassed> {
    let guidance = sources.guidance();
    let check = Steps::new(all, &guidance, found);
    let (mut told, mut problems) = (Vec::new(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        match check.problem(step, deadline)? {
            None => told.push(step.clone()),
            Some(problem) => problems.push(format!("step {}: {problem}", index + 1)),
        }
    }
    Ok((told, problems))
}
