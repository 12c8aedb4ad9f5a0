//! Authentication settings.

use super::reader::SettingsReader;
use super::setting::{Setting, setting};
use crate::domain::Role;
use globset::Glob;
use secrecy::SecretString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Folder in which Kubernetes mounts the service account files of a pod.
const IN_CLUSTER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Returns the namespace of this process when it runs in a pod.
#[must_use]
pub fn own_namespace() -> Option<String> {
    let text = std::fs::read_to_string(PathBuf::from(IN_CLUSTER).join("namespace")).ok()?;
    Some(text.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}

/// Settings of this module.
pub(super) const SETTINGS: &[Setting] = &[
    setting(
        "auth.methods",
        &["REGREEN_AUTH"],
        "",
        "Authentication methods: any of `keys`, `oidc`, `kubernetes`, separated by commas. Unset: no authentication, on loopback only; `none`: no authentication on any address. The old name `auth.ways` still works.",
    ),
    setting(
        "auth.session_expires",
        &["REGREEN_SESSION_EXPIRES"],
        "12h",
        "How long a login to the pages lasts.",
    ),
    setting(
        "auth.oidc_issuer",
        &["REGREEN_OIDC_ISSUER"],
        "",
        "URL of the OIDC issuer, exactly as in the `iss` claim of its tokens.",
    ),
    setting(
        "auth.oidc_audience",
        &["REGREEN_OIDC_AUDIENCE"],
        "",
        "Required audience of tokens. Unset: `auth.oidc_client_id`.",
    ),
    setting(
        "auth.oidc_client_id",
        &["REGREEN_OIDC_CLIENT_ID"],
        "",
        "Client ID for logins to the pages; its redirect URL is `/login/callback` under `server.public_url`.",
    ),
    setting(
        "auth.oidc_client_secret",
        &["REGREEN_OIDC_CLIENT_SECRET"],
        "",
        "Client secret, if there is one: a value, `env:NAME` or `file:/path`.",
    ),
    setting("auth.oidc_scopes", &["REGREEN_OIDC_SCOPES"], "openid profile", "Scopes to request at a login."),
    setting(
        "auth.oidc_name_claim",
        &["REGREEN_OIDC_NAME_CLAIM"],
        "sub",
        "Claim with the name of the caller; the issuer must give each value to one person only.",
    ),
    setting(
        "auth.oidc_role_claim",
        &["REGREEN_OIDC_ROLE_CLAIM"],
        "roles",
        "Claim with the roles or groups of the caller, a string or a list; dots select nested fields.",
    ),
    setting(
        "auth.oidc_roles",
        &["REGREEN_OIDC_ROLES"],
        "reporter=reporter,viewer=viewer,operator=operator,admin=admin",
        "Mapping of its values to roles: `GLOB=ROLE`, separated by commas; the highest role applies.",
    ),
    setting(
        "auth.oidc_default_role",
        &["REGREEN_OIDC_DEFAULT_ROLE"],
        "",
        "Role of callers that match none of these. Unset: no access.",
    ),
    setting(
        "auth.kubernetes_api",
        &["REGREEN_KUBERNETES_API"],
        "https://kubernetes.default.svc",
        "URL of the API server whose service accounts may call.",
    ),
    setting(
        "auth.kubernetes_ca",
        &["REGREEN_KUBERNETES_CA"],
        "",
        "File with its CA certificates. Unset: the pod's own.",
    ),
    setting(
        "auth.kubernetes_token",
        &["REGREEN_KUBERNETES_TOKEN"],
        "",
        "File with this server's token for it. Unset: the pod's own.",
    ),
    setting(
        "auth.kubernetes_audience",
        &["REGREEN_KUBERNETES_AUDIENCE"],
        "regreen",
        "Required audience of service account tokens.",
    ),
    setting(
        "auth.kubernetes_issuer",
        &["REGREEN_KUBERNETES_ISSUER"],
        "",
        "Issuer of these tokens; they are verified with the cluster's published keys. Unset: the API server verifies each token (TokenReview).",
    ),
    setting(
        "auth.kubernetes_roles",
        &["REGREEN_KUBERNETES_ROLES"],
        "**=reporter",
        "Roles of service accounts: `GLOB=ROLE` over `NAMESPACE/NAME`; the first match applies. Reporters are limited to their own namespace.",
    ),
];

/// Authentication methods; without any, authentication is off.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// API keys issued by this server.
    pub keys: bool,
    /// Tokens of an OIDC issuer.
    pub oidc: Option<Oidc>,
    /// Service account tokens of a cluster.
    pub kubernetes: Option<Kubernetes>,
    /// Lifetime of a login session on the pages.
    pub session_expires: Duration,
}

/// An OIDC issuer.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// Issuer URL, exactly as in its tokens.
    pub issuer: String,
    /// Required audience of tokens.
    pub audience: String,
    /// Client id for logins to the pages.
    pub client_id: Option<String>,
    /// Client secret, if the client has one.
    pub client_secret: Option<SecretString>,
    /// Requested scopes.
    pub scopes: Vec<String>,
    /// Claim with the user's name.
    pub name_claim: String,
    /// Claim with the user's roles; dots address nested objects.
    pub role_claim: String,
    /// Mapping of claim values to roles.
    pub roles: Roles,
    /// Role of users without a mapped one.
    pub default_role: Option<Role>,
}

/// Authentication of service accounts of a cluster.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// URL of the API server.
    pub api: String,
    /// File with the CA certificates of the API server; `None` uses the system's.
    pub ca: Option<PathBuf>,
    /// File with this service's own token, read again for each request because it is rotated in place.
    pub token: Option<PathBuf>,
    /// Required audience of tokens.
    pub audience: String,
    /// Issuer of tokens that are verified with the cluster's keys; `None` verifies each token with a request to the API
    /// server.
    pub issuer: Option<String>,
    /// Roles of accounts, by globs over `NAMESPACE/NAME`.
    pub roles: Roles,
}

/// Ordered globs, each with the role of matching names.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<(globset::GlobMatcher, Role)>);

impl Roles {
    /// Returns the role of the first matching glob.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Role> {
        self.0.iter().find(|(glob, _)| glob.is_match(name)).map(|(_, role)| *role)
    }

    fn read(r: &mut SettingsReader<'_>, key: &str) -> Self {
        let mut roles = Vec::new();
        for item in list(&r.required_text(key)) {
            let Some((glob, role)) = item.rsplit_once('=') else {
                r.mistake(format!("`{key}`"), format!("`{item}` has to be `NAME=ROLE`"));
                continue;
            };
            match (Glob::new(glob.trim()), Role::parse(role.trim())) {
                (Ok(glob), Some(role)) => roles.push((glob.compile_matcher(), role)),
                (Err(error), _) => {
                    r.mistake(format!("`{key}`"), format!("`{glob}` is not a glob: {}", error.kind()));
                }
                (_, None) => r.mistake(format!("`{key}`"), not_a_role(role.trim())),
            }
        }
        Self(roles)
    }
}

fn not_a_role(name: &str) -> String {
    format!("`{name}` is no role; there is {}", Role::NAMES.join(", "))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

impl Auth {
    /// Returns whether authentication is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.keys || self.oidc.is_some() || self.kubernetes.is_some()
    }

    pub(super) fn read(r: &mut SettingsReader<'_>, bind: IpAddr) -> Self {
        let ways = list(&r.required_text("auth.methods"));
        for way in &ways {
            if !["keys", "oidc", "kubernetes", "none"].contains(&way.as_str()) {
                let problem = format!("`{way}` is no method; there is keys, oidc, kubernetes, or none");
                r.mistake("`auth.methods`", problem);
            }
        }
        let has = |name: &str| ways.iter().any(|way| way == name);
        if has("none") && ways.len() > 1 {
            r.mistake("`auth.methods`", "names `none` beside other methods");
        }
        if ways.is_empty() && !bind.is_loopback() {
            r.mistake(
                "`auth.methods`",
                format!("is not set, but `server.bind` is {bind}, where others reach this server: set it to any of keys, oidc, kubernetes; or to none, if whoever reaches it may do everything"),
            );
        }
        let (oidc, kubernetes) = (oidc(r), kubernetes(r));
        let session_expires = r.duration("auth.session_expires");
        if !(Duration::from_secs(60)..=Duration::from_secs(90 * 24 * 3600)).contains(&session_expires) {
            r.mistake("`auth.session_expires`", "is outside one minute to 90 days");
        }
        if has("oidc") && oidc.is_none() {
            r.mistake("`auth.oidc_issuer`", "is not set, but `auth.methods` has `oidc`");
        }
        Self {
            keys: has("keys"),
            oidc: oidc.filter(|_| has("oidc")),
            kubernetes: Some(kubernetes).filter(|_| has("kubernetes")),
            session_expires,
        }
    }
}

/// Reads a URL to which tokens and keys are sent. Requires https except on loopback.
fn guarded_url(r: &mut SettingsReader<'_>, key: &str) -> Option<String> {
    let text = r.url(key)?;
    let url = reqwest::Url::parse(&text).ok()?;
    let bare = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let local = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if url.scheme() != "https" && !local {
        r.mistake(format!("`{key}`"), "has to be https://");
    }
    Some(text)
}

fn oidc(r: &mut SettingsReader<'_>) -> Option<Oidc> {
    let issuer = guarded_url(r, "auth.oidc_issuer");
    let client_id = r.text("auth.oidc_client_id");
    let default_role = r.text("auth.oidc_default_role").and_then(|name| {
        let role = Role::parse(&name);
        if role.is_none() {
            r.mistake("`auth.oidc_default_role`", not_a_role(&name));
        }
        role
    });
    let audience = r.text("auth.oidc_audience").or_else(|| client_id.clone());
    if issuer.is_some() && audience.is_none() {
        r.mistake(
            "`auth.oidc_audience`",
            "is not set: without it tokens that were made for other programs would be taken",
        );
    }
    let oidc = Oidc {
        issuer: issuer.clone().unwrap_or_default(),
        audience: audience.unwrap_or_default(),
        client_id,
        client_secret: r.secret("auth.oidc_client_secret"),
        scopes: r.required_text("auth.oidc_scopes").split_whitespace().map(str::to_owned).collect(),
        name_claim: r.required_text("auth.oidc_name_claim"),
        role_claim: r.required_text("auth.oidc_role_claim"),
        roles: Roles::read(r, "auth.oidc_roles"),
        default_role,
    };
    issuer.map(|_| oidc)
}

fn kubernetes(r: &mut SettingsReader<'_>) -> Kubernetes {
    let file = |key: &str, name: &str, r: &SettingsReader<'_>| {
        let own = PathBuf::from(IN_CLUSTER).join(name);
        r.text(key).map(PathBuf::from).or_else(|| own.exists().then_some(own))
    };
    let (ca, token) = (file("auth.kubernetes_ca", "ca.crt", r), file("auth.kubernetes_token", "token", r));
    Kubernetes {
        api: guarded_url(r, "auth.kubernetes_api").unwrap_or_default().trim_end_matches('/').to_owned(),
        ca,
        token,
        audience: r.required_text("auth.kubernetes_audience"),
        issuer: r.text("auth.kubernetes_issuer"),
        roles: Roles::read(r, "auth.kubernetes_roles"),
    }
}
