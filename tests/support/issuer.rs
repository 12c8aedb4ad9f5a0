//! A token issuer on loopback: OIDC with the code flow and PKCE, and a cluster's keys and TokenReview. Signs arbitrary
//! tokens, rotates keys, and becomes unavailable on request.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// A key of the issuer.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub algorithm: Algorithm,
    pub secret: EncodingKey,
}

impl Key {
    pub fn elliptic(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let secret = EncodingKey::from_ec_der(pair.unwrap().as_ref());
        Self { id: id.to_owned(), algorithm: Algorithm::ES256, secret }
    }

    pub fn rsa(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // At this key size, the key starts after a PKCS #8 header of 26 bytes.
        let secret = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
        Self { id: id.to_owned(), algorithm: Algorithm::RS256, secret }
    }

    /// Returns the public JWK.
    pub fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.secret, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        json!(jwk)
    }

    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.id.clone()), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.secret).unwrap()
    }
}

/// Builds a token from parts that no library would combine.
pub fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

#[derive(Default)]
struct Known {
    keys: Vec<Value>,
    away: bool,
    /// Number of key requests.
    read: usize,
    /// Number of discovery requests.
    discovered: usize,
    /// Claims of the next user who logs in.
    person: Value,
    /// Issued codes: challenge, nonce, redirect URL, claims.
    codes: BTreeMap<String, (String, String, String, Value)>,
    reviews: Vec<Value>,
    accounts: BTreeMap<String, Value>,
}

/// The running issuer.
pub struct Issuer {
    pub url: String,
    pub key: Key,
    known: Arc<Mutex<Known>>,
    server: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Own {
    url: String,
    key: Key,
    known: Arc<Mutex<Known>>,
}

impl Issuer {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = Key::elliptic("first");
        let known = Arc::new(Mutex::new(Known { keys: vec![key.public()], ..Known::default() }));
        let own = Own { url: url.clone(), key: key.clone(), known: Arc::clone(&known) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/openid/v1/jwks", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .with_state(own);
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self { url, key, known, server }
    }

    /// Returns valid claims for `audience` with `changes`; null removes a claim.
    pub fn claims(&self, audience: &str, changes: &Value) -> Value {
        let now = chrono::Utc::now().timestamp();
        let mut claims = json!({"iss": self.url, "aud": audience, "sub": "alice", "iat": now, "nbf": now, "exp": now + 600, "roles": ["operator"]});
        for (name, value) in changes.as_object().into_iter().flatten() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    pub fn publish(&self, keys: Vec<Value>) {
        self.known.lock().unwrap().keys = keys;
    }

    pub fn away(&self, away: bool) {
        self.known.lock().unwrap().away = away;
    }

    pub fn times_read(&self) -> usize {
        self.known.lock().unwrap().read
    }

    pub fn times_discovered(&self) -> usize {
        self.known.lock().unwrap().discovered
    }

    /// Sets additional claims of the next user who logs in.
    pub fn person(&self, claims: Value) {
        self.known.lock().unwrap().person = claims;
    }

    /// Sets the TokenReview status of a token.
    pub fn account(&self, token: &str, status: Value) {
        self.known.lock().unwrap().accounts.insert(token.to_owned(), status);
    }

    pub fn reviews(&self) -> Vec<Value> {
        self.known.lock().unwrap().reviews.clone()
    }
}

async fn discovery(State(own): State<Own>) -> Response {
    let mut known = own.known.lock().unwrap();
    known.discovered += 1;
    if known.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let at = |path: &str| format!("{}{path}", own.url);
    Json(json!({"issuer": own.url, "jwks_uri": at("/keys"), "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token")})).into_response()
}

async fn keys(State(own): State<Own>) -> Response {
    let mut known = own.known.lock().unwrap();
    known.read += 1;
    if known.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(json!({"keys": known.keys})).into_response()
}

/// Logs in every user without a prompt.
async fn authorize(State(own): State<Own>, Query(asked): Query<BTreeMap<String, String>>) -> Response {
    let of = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let good = of("response_type") == "code"
        && of("client_id") == "regreen-pages"
        && of("code_challenge_method") == "S256"
        && !of("code_challenge").is_empty()
        && of("scope").split(' ').any(|scope| scope == "openid");
    if !good {
        return (StatusCode::BAD_REQUEST, format!("{asked:?}")).into_response();
    }
    let code = uuid::Uuid::new_v4().simple().to_string();
    let mut known = own.known.lock().unwrap();
    let person = known.person.clone();
    known.codes.insert(code.clone(), (of("code_challenge"), of("nonce"), of("redirect_uri"), person));
    let back =
        reqwest::Url::parse_with_params(&of("redirect_uri"), [("code", &code), ("state", &of("state"))]);
    Redirect::to(back.unwrap().as_str()).into_response()
}

async fn token(
    State(own): State<Own>,
    headers: HeaderMap,
    Form(form): Form<BTreeMap<String, String>>,
) -> Response {
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({"error": error}))).into_response();
    let basic = format!("Basic {}", STANDARD.encode("regreen-pages:client-secret"));
    if headers.get(header::AUTHORIZATION).is_none_or(|sent| sent.as_bytes() != basic.as_bytes()) {
        return refused("invalid_client");
    }
    let of = |name: &str| form.get(name).cloned().unwrap_or_default();
    let Some((challenge, nonce, redirect, person)) = own.known.lock().unwrap().codes.remove(&of("code"))
    else {
        return refused("invalid_grant");
    };
    let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(of("code_verifier")));
    if verifier != challenge || of("redirect_uri") != redirect || of("grant_type") != "authorization_code" {
        return refused("invalid_grant");
    }
    let now = chrono::Utc::now().timestamp();
    let mut claims = json!({"iss": own.url, "aud": "regreen-pages", "sub": "alice", "iat": now, "exp": now + 60, "nonce": nonce});
    for (name, value) in person.as_object().into_iter().flatten() {
        claims[name] = value.clone();
    }
    Json(json!({"access_token": "opaque", "token_type": "Bearer", "id_token": own.key.sign(&claims)}))
        .into_response()
}

async fn review(State(own): State<Own>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    let mut known = own.known.lock().unwrap();
    if known.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if headers.get(header::AUTHORIZATION).is_none_or(|sent| sent.as_bytes() != b"Bearer own-token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let token = asked["spec"]["token"].as_str().unwrap_or_default().to_owned();
    known.reviews.push(asked);
    let status =
        known.accounts.get(&token).cloned().unwrap_or(json!({"authenticated": false, "error": "unknown"}));
    (StatusCode::CREATED, Json(json!({"kind": "TokenReview", "status": status}))).into_response()
}
