//! What secrets look like. One row per kind: its name, words one of which has to stand in the line, and the expression whose
//! group `secret` is replaced. The formats are those their issuers document.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use regex::Regex;
use std::sync::{LazyLock, OnceLock};

/// Name, triggers in lower case separated by blanks, expression.
#[rustfmt::skip]
const RULES: &[(&str, &str, &str)] = &[
    // Forges.
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?P<secret>\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,})"),
    ("gitlab-token", "glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glagent- gloas- glimt- glffct-", r"\b(?P<secret>gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas|imt|ffct)-[A-Za-z0-9_.-]{20,})"),
    ("bitbucket-token", "atbb atct", r"\b(?P<secret>AT(?:BB|CT)[A-Za-z0-9_=-]{24,})"),
    ("atlassian-token", "atatt3", r"\b(?P<secret>ATATT3[A-Za-z0-9_=-]{20,})"),
    // Clouds.
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
    // Registries of packages and images.
    ("npm-token", "npm_", r"\b(?P<secret>npm_[A-Za-z0-9]{36})\b"),
    ("npm-auth", "_auth _password", r"(?i)(?::|\b)_(?:auth(?:Token)?|password)\s*=\s*(?P<secret>[A-Za-z0-9+/=._-]{8,})"),
    ("pypi-token", "pypi-", r"\b(?P<secret>pypi-[A-Za-z0-9_-]{50,})"),
    ("rubygems-key", "rubygems_", r"\b(?P<secret>rubygems_[a-f0-9]{48})"),
    ("crates-token", "cio", r"\b(?P<secret>cio[A-Za-z0-9]{32})\b"),
    ("nuget-key", "oy2", r"\b(?P<secret>oy2[a-z0-9]{43})\b"),
    ("docker-token", "dckr_pat_ dckr_oat_", r"\b(?P<secret>dckr_[po]at_[A-Za-z0-9_-]{20,})"),
    ("docker-auth", "auth identitytoken registrytoken", r#""(?:auth|identitytoken|registrytoken)"\s*:\s*"(?P<secret>[^"\s]{8,})""#),
    ("artifactory-key", "akcp cmvmd", r"\b(?P<secret>AKCp[A-Za-z0-9]{60,}|cmVmd[A-Za-z0-9]{50,})"),
    // Clusters and their tools.
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
    // Ways of handing a secret over.
    ("authorization", "authorization", r#"(?i)\bauthorization\\?["']?\s*[:=]\s*\\?["']?(?:(?:bearer|basic|token|negotiate|digest)\s+)?(?P<secret>[A-Za-z0-9+/=._~-]{8,})"#),
    ("cookie", "cookie", r"(?i)\b(?:set-)?cookie:\s*(?P<secret>\S.{7,})"),
    ("api-key-header", "x-api-key x-auth-token x-vault-token private-token job-token x-gitlab-token x-goog-api-key apikey", r#"(?i)\b(?:x-api-key|x-auth-token|x-vault-token|private-token|job-token|x-gitlab-token|x-goog-api-key|apikey)["']?\s*[:=]\s*["']?(?P<secret>[^\s"',;]{8,})"#),
    ("bearer-token", "bearer", r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9+/=._~-]{16,})"),
    ("url-password", "://", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@'\x22]*:(?P<secret>[^\s/@'\x22]{2,})@"),
    ("url-token", "://", r"\b[a-zA-Z][a-zA-Z0-9+.-]*://(?P<secret>[A-Za-z0-9_~.-]{20,})@"),
    ("connection-string", "password= pwd=", r"(?i)\b(?:password|pwd)=(?P<secret>[^\s;,'\x22&]{3,})"),
    ("netrc-password", "machine", r"(?i)\bmachine\s+\S+\s+login\s+\S+\s+password\s+(?P<secret>\S+)"),
    ("login-option", "curl wget docker podman skopeo buildah mysql psql sshpass svn http helm", r#"(?i)\b(?:curl|wget|http)\b.*?\s(?:-u|--user|--proxy-user)[ =]["']?[^\s:"']+:(?P<secret>[^\s"'@]{3,})"#),
    ("login-option", "docker podman skopeo buildah helm oras crane login", r#"(?i)\b(?:docker|podman|skopeo|buildah|helm|oras|crane|oc)\b.*?\blogin\b.*?\s-p[ =]?["']?(?P<secret>[^\s"'-][^\s"']{3,})"#),
    ("login-option", "mysql mysqldump sshpass mariadb", r#"(?i)\b(?:mysql|mysqldump|mariadb|sshpass)\b.*?\s-p ?["']?(?P<secret>[^\s"'-][^\s"']{3,})"#),
    ("password", "password passwd passphrase passwort pwd secret key token credential", r#"(?i)(?:\b|_)(?:password|passwd|passphrase|passwort|pwd|secret|client[_-]?secret|access[_-]?key|secret[_-]?key|secret[_-]?access[_-]?key|private[_-]?key|encryption[_-]?key|signing[_-]?key|master[_-]?key|account[_-]?key|api[_-]?key|apikey|(?:access|auth|refresh|api|deploy|session|id|private|bot|webhook|registry|csrf)[_-]?token|token|credentials?)\\?["']?\s*(?:=|:|=>|:=)\s*(?P<secret>\\?"[^"\r\n]{4,}"|'[^'\r\n]{4,}'|[^\s"'<>,;(){}\[\]]{6,})"#),
    ("password", "password= passwd= secret token key cred", r"\b(?:[A-Z][A-Z0-9_]*_)?(?:PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|API_KEY|SECRET_KEY|PRIVATE_KEY|ACCESS_KEY|CREDENTIALS?)(?:_(?:BASE|PROD|DEV|STAGING|TEST|CI|VALUE|KEY|HASH|SALT|[0-9]+))?=(?P<secret>[^\s;,\x22']{6,})"),
    ("password", "password passwd token secret api-key pass", r"(?i)(?:^|\s)--?(?:password|passwd|token|secret|api-key|access-token|auth-token|storepass|keypass|passphrase|db-password)[ =](?P<secret>[^\s-][^\s]{5,})"),
];

/// A kind of secret.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    expression: &'static str,
    compiled: OnceLock<Regex>,
}

impl Rule {
    /// Compiled when a line first has one of its triggers.
    pub(super) fn pattern(&self) -> &Regex {
        self.compiled.get_or_init(|| Regex::new(self.expression).expect("a fixed expression"))
    }
}

/// All rules and the automaton that finds their triggers.
pub(super) struct Rules {
    rules: Vec<Rule>,
    triggers: AhoCorasick,
    /// The rule of each trigger.
    of_trigger: Vec<usize>,
}

pub(super) static ALL: LazyLock<Rules> = LazyLock::new(|| {
    let mut words = Vec::new();
    let mut of_trigger = Vec::new();
    for (index, (_, triggers, _)) in RULES.iter().enumerate() {
        for word in triggers.split(' ') {
            words.push(word);
            of_trigger.push(index);
        }
    }
    let triggers = AhoCorasickBuilder::new().ascii_case_insensitive(true).build(words).expect("fixed words");
    let rules =
        RULES.iter().map(|(kind, _, expression)| Rule { kind, expression, compiled: OnceLock::new() });
    Rules { rules: rules.collect(), triggers, of_trigger }
});

impl Rules {
    /// The rules worth trying on a line, in order.
    pub(super) fn for_line(&self, line: &str) -> impl Iterator<Item = &Rule> {
        let mut wanted = 0u128;
        for found in self.triggers.find_overlapping_iter(line) {
            wanted |= 1 << self.of_trigger[found.pattern().as_usize()];
        }
        self.rules.iter().enumerate().filter(move |(index, _)| wanted >> index & 1 == 1).map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles_and_names_its_secret() {
        // The rules of a line are kept in one word of bits.
        assert!(RULES.len() < 128);
        for rule in &ALL.rules {
            assert!(rule.pattern().capture_names().flatten().any(|name| name == "secret"), "{}", rule.kind);
        }
    }

    #[test]
    fn a_common_line_tries_no_expression() {
        assert_eq!(ALL.for_line("Downloading the archive from the mirror, 42 of 100").count(), 0);
    }
}
