//! Formats of secrets. One row per kind: name, trigger words of which a line must contain one, and an expression whose
//! group `secret` is replaced. The formats are documented by their issuers.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use regex::Regex;
use std::sync::{LazyLock, OnceLock};

/// Kind of the rules that detect secrets by name.
const NAMED: &str = "password";
/// Trigger words for names of secrets.
const NAMES: &str = "pass pwd secret token key cred _auth _pat _jwt cookie";

/// A value in quotes or escaped quotes, which may be cut at the end of the line.
macro_rules! quoted {
    () => {
        r#"\\"(?:[^"\\]|\\\\\\?.)*(?:\\"|$)|"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)"#
    };
}

/// Kind, lower-case trigger words separated by spaces, and expression.
#[rustfmt::skip]
const RULES: &[(&str, &str, &str)] = &[
    // Forges.
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?P<secret>\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,})"),
    ("gitlab-token", "glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glagent- gloas- glimt- glffct-", r"\b(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-[A-Za-z0-9_.-]{20,})"),
    ("bitbucket-token", "atbb atct", r"\b(?P<secret>AT(?:BB|CT)[A-Za-z0-9_=-]{24,})"),
    ("atlassian-token", "atatt3", r"\b(?P<secret>ATATT3[A-Za-z0-9_=-]{20,})"),
    // Cloud providers.
    ("aws-key", "akia asia abia acca a3t", r"\b(?P<secret>(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})\b"),
    ("google-key", "aiza", r"\b(?P<secret>AIza[A-Za-z0-9_-]{35})"),
    ("google-token", "ya29. gocspx-", r"\b(?P<secret>ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,})"),
    ("azure-key", "accountkey sharedaccesskey sharedaccesssignature", r"(?i)\b(?:AccountKey|SharedAccessKey|SharedAccessSignature)=(?P<secret>[A-Za-z0-9+/=%&]{20,})"),
    ("azure-sas", "sig=", r"[?&]sig=(?P<secret>[A-Za-z0-9%+/=]{20,})"),
    ("azure-secret", "q~", r"\b(?P<secret>[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34})"),
    ("aws-signature", "x-amz-signature x-amz-security-token x-amz-credential", r"(?i)X-Amz-(?:Signature|Security-Token|Credential)=(?P<secret>[A-Za-z0-9%/+=_-]{16,})"),
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"\b(?P<secret>do[opr]_v1_[a-f0-9]{64})"),
    ("alibaba-key", "ltai", r"\b(?P<secret>LTAI[A-Za-z0-9]{16,24})\b"),
    ("heroku-key", "hrku-", r"\b(?P<secret>HRKU-[A-Za-z0-9_-]{30,})"),
    ("fly-token", "fo1_ fm1r_ fm2_", r"\b(?P<secret>(?:fo1_|fm1r_|fm2_)[A-Za-z0-9+/=_-]{20,})"),
    ("cloudflare-key", "v1.0-", r"\b(?P<secret>v1\.0-[a-f0-9]{24}-[a-f0-9]{146})"),
    // Package and image registries.
    ("npm-token", "npm_", r"\b(?P<secret>npm_[A-Za-z0-9]{36})\b"),
    ("npm-auth", "_auth _password", r"(?i)(?::|\b)_(?:auth(?:Token)?|password)\s*=\s*(?P<secret>[A-Za-z0-9+/=._-]{8,})"),
    ("pypi-token", "pypi-", r"\b(?P<secret>pypi-[A-Za-z0-9_-]{50,})"),
    ("rubygems-key", "rubygems_", r"\b(?P<secret>rubygems_[a-f0-9]{48})"),
    ("crates-token", "cio", r"\b(?P<secret>cio[A-Za-z0-9]{32})\b"),
    ("nuget-key", "oy2", r"\b(?P<secret>oy2[a-z0-9]{43})\b"),
    ("docker-token", "dckr_pat_ dckr_oat_", r"\b(?P<secret>dckr_[po]at_[A-Za-z0-9_-]{20,})"),
    ("docker-auth", "auth identitytoken registrytoken", r#""(?:auth|identitytoken|registrytoken)"\s*:\s*"(?P<secret>[^"\s]{8,})""#),
    ("artifactory-key", "akcp cmvmd", r"\b(?P<secret>AKCp[A-Za-z0-9]{60,}|cmVmd[A-Za-z0-9]{50,})"),
    // Clusters and related tools.
    ("openshift-token", "sha256~", r"\b(?P<secret>sha256~[A-Za-z0-9_-]{30,})"),
    ("jwt", "eyj", r"\b(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"),
    ("vault-token", "hvs. hvb. hvr. s.", r"\b(?P<secret>hv[sbr]\.[A-Za-z0-9_-]{20,}|s\.[A-Za-z0-9]{24})\b"),
    ("kubeconfig-key", "client-key-data client-certificate-data", r"client-(?:key|certificate)-data:\s*(?P<secret>[A-Za-z0-9+/=]{20,})"),
    ("age-key", "age-secret-key-1", r"(?P<secret>AGE-SECRET-KEY-1[A-Z0-9]{50,})"),
    ("terraform-token", ".atlasv1.", r"\b(?P<secret>[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,})"),
    ("pulumi-token", "pul-", r"\b(?P<secret>pul-[a-f0-9]{40})\b"),
    ("doppler-token", "dp.pt. dp.st. dp.ct.", r"\b(?P<secret>dp\.[psc]t\.[A-Za-z0-9._-]{30,})"),
    ("grafana-token", "glsa_ glc_", r"\b(?P<secret>glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}|glc_[A-Za-z0-9+/=]{32,})"),
    ("newrelic-key", "nrak- nrjs- nrii-", r"\b(?P<secret>NR(?:AK|JS|II)-[A-Za-z0-9_-]{16,})"),
    ("sentry-token", "sntrys_ sntryu_", r"\b(?P<secret>sntry[su]_[A-Za-z0-9+/=_-]{30,})"),
    ("sonar-token", "sqp_ squ_ sqa_", r"\b(?P<secret>sq[pua]_[a-f0-9]{40})\b"),
    ("databricks-token", "dapi", r"\b(?P<secret>dapi[a-f0-9]{32}(?:-\d)?)\b"),
    ("snyk-token", "snyk", r"(?i)\bsnyk[_-]?token\W{1,4}(?P<secret>[0-9a-f]{8}-[0-9a-f-]{27})"),
    ("regreen-key", "rgn_", r"\b(?P<secret>rgn_[A-Za-z0-9_-]{43})"),
    // Services.
    ("slack-token", "xoxa xoxb xoxe xoxo xoxp xoxr xoxs xapp-", r"\b(?P<secret>xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{20,})"),
    ("slack-webhook", "hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9/_+-]{20,})"),
    ("teams-webhook", "webhook.office.com", r"webhook\.office\.com/webhookb2/(?P<secret>[A-Za-z0-9@/-]{30,})"),
    ("discord-webhook", "/api/webhooks/", r"/api/webhooks/\d{10,}/(?P<secret>[A-Za-z0-9_-]{40,})"),
    ("telegram-token", ":aa", r"\b(?P<secret>\d{8,10}:AA[A-Za-z0-9_-]{32,34})"),
    ("api-key", "sk-", r"\b(?P<secret>sk-(?:proj-|ant-|or-|svcacct-|admin-)?[A-Za-z0-9_-]{20,})"),
    ("huggingface-token", "hf_", r"\b(?P<secret>hf_[A-Za-z]{30,40})\b"),
    ("stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"\b(?P<secret>[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{24,})"),
    ("square-token", "sq0 eaaa", r"\b(?P<secret>sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,}|EAAA[A-Za-z0-9_-]{60})\b"),
    ("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"\b(?P<secret>shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})\b"),
    ("sendgrid-key", "sg.", r"\b(?P<secret>SG\.[A-Za-z0-9_-]{16,24}\.[A-Za-z0-9_-]{32,50})"),
    ("mailgun-key", "key-", r"\b(?P<secret>key-[a-f0-9]{32})\b"),
    ("mailchimp-key", "-us", r"\b(?P<secret>[a-f0-9]{32}-us\d{1,2})\b"),
    ("twilio-key", "sk", r"\b(?P<secret>SK[a-f0-9]{32})\b"),
    ("linear-key", "lin_api_", r"\b(?P<secret>lin_api_[A-Za-z0-9]{40})"),
    ("notion-token", "secret_ ntn_", r"\b(?P<secret>(?:secret|ntn)_[A-Za-z0-9]{40,50})\b"),
    ("postman-key", "pmak-", r"\b(?P<secret>PMAK-[a-f0-9]{24}-[a-f0-9]{34})"),
    ("planetscale-token", "pscale_", r"\b(?P<secret>pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_=.-]{32,})"),
    ("launchdarkly-key", "sdk- api-", r"\b(?P<secret>(?:sdk|api)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b"),
    // Headers, URLs, options and other ways to pass a secret.
    ("authorization", "authorization", r#"(?i)\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:bearer|basic|token|negotiate|digest)\s+)?(?P<secret>[A-Za-z0-9+/=._~-]{8,})"#),
    ("cookie", "cookie", r"(?i)\b(?:set-)?cookie:\s*(?P<secret>\S.{7,})"),
    ("api-key-header", "x-api-key x-auth-token x-vault-token private-token job-token x-gitlab-token x-goog-api-key apikey", r#"(?i)\b(?:x-api-key|x-auth-token|x-vault-token|private-token|job-token|x-gitlab-token|x-goog-api-key|apikey)["']?\s*[:=]\s*["']?(?P<secret>[^\s"',;]{8,})"#),
    ("bearer-token", "bearer", r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9+/=._~-]{16,})"),
    ("url-parameter", "token= sig= signature= key= apikey= password= passwd= pwd= pass= secret= auth= sas= ticket= session= sessionid= credential=", r"(?i)[?&;](?:amp;)?(?:(?:private|access|refresh|id|job|auth|api|session|security)?[_-]?token|x-(?:amz|goog)-(?:signature|credential|security-token)|sig|signature|api[_-]?key|apikey|password|passwd|pwd|pass|client[_-]?secret|secret|auth|sas|ticket|session(?:_?id)?)=(?P<literal>[^\s&;#\x22'<>\\)\]}]{2,})"),
    ("url-parameter", "key= code=", r"(?i)[?&](?:key|code)=(?P<secret>[A-Za-z0-9_-]{16,})(?:[&#\s\x22')>]|$)"),
    ("url-password", "://", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'\x22]*:(?P<secret>[^\s/'\x22]{2,})@"),
    ("url-token", "://", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://(?P<secret>[A-Za-z0-9_~.-]{20,})@"),
    // `&` separates parameters only if another parameter follows; otherwise it is part of the password.
    ("connection-string", "password= pwd=", r"(?i)\b(?:password|pwd)=(?P<secret>[^\s;,'\x22&]{3,}(?:&[^\s;,'\x22&=]+)*)(?:[\s;,'\x22&]|$)"),
    ("netrc-password", "machine", r"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+(?P<secret>\S+)"),
    ("login-option", "curl wget docker podman skopeo buildah mysql psql sshpass svn http helm", r#"(?i)\b(?:curl|wget|http)\b.*?\s(?:-u|--user|--proxy-user)[ =]["']?[^\s:"']+:(?P<secret>[^\s"'@]{3,})"#),
    ("login-option", "docker podman skopeo buildah helm oras crane login", r#"(?i)\b(?:docker|podman|skopeo|buildah|helm|oras|crane|oc)\b.*?\blogin\b.*?\s-p[ =]?["']?(?P<secret>[^\s"'-][^\s"']{3,})"#),
    ("login-option", "mysql mysqldump sshpass mariadb", r#"(?i)\b(?:mysql|mysqldump|mariadb|sshpass)\b.*?\s-p ?["']?(?P<secret>[^\s"'-][^\s"']{3,})"#),
    (NAMED, NAMES, concat!(r"\b(?P<name>[A-Z][A-Z0-9_]*(?:PASS(?:W(?:OR)?D|WORT|PHRASE)?|PWD|SECRET|TOKEN|KEY|CRED(?:ENTIAL)?S?|AUTH|PAT|JWT|COOKIE)(?:_[A-Z0-9]+)*)=(?P<literal>", quoted!(), r#"|[^\s;,"']{3,})"#)),
    (NAMED, NAMES, concat!(r#"(?i)(?P<name>[A-Z0-9_.-]*(?:pass(?:w(?:or)?d|wort|phrase)?|pwd|secret|token|key|cred(?:ential)?s?|_auth|_pat|_jwt|cookie)(?:[_.-]?(?:base(?:64)?|b64|prod|dev|staging|test|ci|value|hash|salt|old|new|primary|secondary|current|previous|encoded|plain|[0-9]+))*)\\*["']?\s*(?:=>|:=|=|:)\s*(?P<secret>"#, quoted!(), r#"|[^\s"'<>,;(){}\[\]]{3,})"#)),
    (NAMED, NAMES, r#"(?i)(?:^|[\s"'\[(,=])--?(?P<name>[A-Z][A-Z0-9_.-]*)=["']?(?P<literal>[^\s"'-][^\s"',]{3,})"#),
    (NAMED, NAMES, r#"(?i)(?:^|[\s"'\[(,=])--?(?P<name>[A-Z][A-Z0-9_.-]*)\s+["']?(?P<secret>[^\s"'-][^\s"',]{3,})"#),
    (NAMED, NAMES, r#"(?i)--?[a-z0-9_.-]*(?:pass(?:word|wd|phrase)?|secret|token|key)\\*["'],\s*\\*["'](?P<literal>[^"'\\\s-][^"'\\]*)"#),
    (NAMED, NAMES, r"\bName:(?P<name>[A-Za-z0-9_.-]+),? Value:(?P<literal>[^\s{}]{3,})"),
    (NAMED, NAMES, r"(?i)<(?:name|key)>(?P<name>[A-Za-z0-9_.-]+)</(?:name|key)>\s*<value>(?P<literal>[^<]+)</value>"),
    (NAMED, NAMES, r"(?i)<(?P<name>[A-Za-z0-9_.-]+)>(?P<secret>[^<>\s]{3,})</"),
    (NAMED, "pass:", r"(?:^|\s)-pass(?:in|out)?\s+pass:(?P<literal>[^\s'\x22]+)"),
];

/// A kind of secret.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    expression: &'static str,
    compiled: OnceLock<Regex>,
}

impl Rule {
    /// Compiled when a line first contains one of the rule's triggers.
    pub(super) fn pattern(&self) -> &Regex {
        self.compiled.get_or_init(|| Regex::new(self.expression).expect("a fixed expression"))
    }
}

/// All rules, and the automaton that finds their triggers.
pub(super) struct Rules {
    rules: Vec<Rule>,
    triggers: AhoCorasick,
    /// Bit set of rules for each trigger.
    of_trigger: Vec<u128>,
    /// Bit set of the rules that detect secrets by name.
    named: u128,
}

pub(super) static ALL: LazyLock<Rules> = LazyLock::new(|| {
    let (mut words, mut of_trigger, mut named): (Vec<&str>, Vec<u128>, u128) = (Vec::new(), Vec::new(), 0);
    for (index, (_, triggers, _)) in RULES.iter().enumerate() {
        for word in triggers.split(' ') {
            // Rules may share triggers; each trigger is added once.
            match words.iter().position(|known| *known == word) {
                Some(known) => of_trigger[known] |= 1 << index,
                None => {
                    words.push(word);
                    of_trigger.push(1 << index);
                }
            }
        }
        if *triggers == NAMES {
            named |= 1 << index;
        }
    }
    let triggers = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(words).expect("fixed words");
    let rules =
        RULES.iter().map(|(kind, _, expression)| Rule { kind, expression, compiled: OnceLock::new() });
    Rules { rules: rules.collect(), triggers, of_trigger, named }
});

/// The rules to apply to a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    rules: u128,
    named: u128,
}

impl Wanted {
    /// Whether the line contains a trigger for names of secrets.
    pub(super) fn names(self) -> bool {
        self.rules & self.named != 0
    }
}

impl Rules {
    /// Returns the rules with a trigger in the line.
    pub(super) fn wanted(&self, line: &str) -> Wanted {
        let mut rules = 0u128;
        for found in self.triggers.find_overlapping_iter(line) {
            rules |= self.of_trigger[found.pattern().as_usize()];
        }
        Wanted { rules, named: self.named }
    }

    /// Returns the wanted rules in order.
    pub(super) fn of(&self, wanted: Wanted) -> impl Iterator<Item = &Rule> {
        let mut left = wanted.rules;
        std::iter::from_fn(move || {
            let index = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            self.rules.get(index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles_and_names_its_secret() {
        // The rules of a line are stored in the bits of one integer.
        assert!(RULES.len() < 128);
        for rule in &ALL.rules {
            assert!(
                rule.pattern().capture_names().flatten().any(|name| matches!(name, "secret" | "literal")),
                "{}",
                rule.kind
            );
        }
    }

    #[test]
    fn a_common_line_tries_no_expression() {
        let wanted = ALL.wanted("Downloading the archive from the mirror, 42 of 100");
        assert_eq!(ALL.of(wanted).count(), 0);
    }
}
