//! Sessions opened on behalf of callers: each uses its caller's token, never the service's headers or another caller's
//! token. Idle sessions are kept for a limited time and number; tokens are kept only in memory.

use super::call::CallError;
use super::definitions::DefinitionVerifier;
use super::http::Connector;
use super::server::Server;
use crate::domain::Caller;
use crate::shutdown::Shutdown;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Maximum number of open sessions.
const MAX_SESSIONS: usize = 64;
/// How long an idle session is kept.
const IDLE: Duration = Duration::from_secs(300);

/// A session with a server on behalf of a caller. Holding a reference keeps it open.
pub(super) struct UserSession {
    server: Arc<Server>,
    /// SHA-256 of the token: the session serves only holders of this token.
    token: [u8; 32],
    used: Mutex<Instant>,
    stop: CancellationToken,
}

impl UserSession {
    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn is_for(&self, server: &str, token: &[u8; 32]) -> bool {
        self.server.config.name == server && self.token == *token && !self.stop.is_cancelled()
    }

    fn use_now(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All open sessions.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<Vec<Arc<UserSession>>>,
}

impl Sessions {
    /// Returns the caller's session with a server, and opens one if necessary.
    ///
    /// # Errors
    /// The caller has no token, the server rejects it or is unreachable, or too many sessions are in use.
    pub(super) async fn of(
        self: &Arc<Self>,
        server: &Arc<Server>,
        caller: &Caller,
        connector: &Connector,
        shutdown: &Shutdown,
    ) -> Result<Arc<UserSession>, CallError> {
        let name = &server.config.name;
        let token = caller.token.as_ref().ok_or_else(|| CallError::NoToken { server: name.clone() })?;
        let (own, is_new) = self.claim(server, token, shutdown)?;
        if is_new {
            let (session, sessions) = (Arc::downgrade(&own), Arc::clone(self));
            let connector = connector.clone();
            let (server, stop) = (Arc::clone(&own.server), own.stop.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = server.connect_once(connector) => {}
                    () = idle(&session) => {}
                    () = stop.cancelled() => {}
                }
                stop.cancel();
                sessions.forget(&server);
            });
        }
        own.server.wait_for_first_attempt().await;
        let status = own.server.status();
        if status.is_connected() {
            return Ok(own);
        }
        let reason = status.last_error.unwrap_or_else(|| "it has not answered".to_owned());
        Err(CallError::NotConnected {
            server: name.clone(),
            reason: format!("with the caller's own token: {reason}"),
        })
    }

    /// Returns the session for a server and token, and whether it is new. An unused session is closed to make room.
    fn claim(
        &self,
        server: &Arc<Server>,
        token: &SecretString,
        shutdown: &Shutdown,
    ) -> Result<(Arc<UserSession>, bool), CallError> {
        let digest: [u8; 32] = Sha256::digest(token.expose_secret().as_bytes()).into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.iter().find(|own| own.is_for(&server.config.name, &digest)) {
            own.use_now();
            return Ok((Arc::clone(own), false));
        }
        if open.len() >= MAX_SESSIONS {
            let unused = open.iter().filter(|own| Arc::strong_count(own) == 1);
            let Some(oldest) = unused.min_by_key(|own| own.used()).map(Arc::clone) else {
                let reason = format!("{MAX_SESSIONS} sessions of callers are in use; try again in a moment");
                return Err(CallError::NotConnected { server: server.config.name.clone(), reason });
            };
            oldest.stop.cancel();
            open.retain(|own| !Arc::ptr_eq(own, &oldest));
        }
        let mut config = server.config.clone();
        // The other headers of the service may identify it too, so all are replaced.
        let bearer = SecretString::from(format!("Bearer {}", token.expose_secret()));
        config.headers = BTreeMap::from([("authorization".to_owned(), bearer)]);
        let own = Arc::new(UserSession {
            // The tool list of this server is not used: the shared server decides which tools can be called.
            server: Arc::new(Server::new(config, DefinitionVerifier::default())),
            token: digest,
            used: Mutex::new(Instant::now()),
            stop: shutdown.token().child_token(),
        });
        open.push(Arc::clone(&own));
        Ok((own, true))
    }

    fn forget(&self, server: &Arc<Server>) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|own| !Arc::ptr_eq(&own.server, server));
    }

    /// Ends all sessions with a server.
    pub(super) fn close(&self, server: &str) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter(|own| own.server.config.name == server).for_each(|own| own.stop.cancel());
    }
}

/// Completes when the session has been idle for [`IDLE`].
async fn idle(session: &Weak<UserSession>) {
    loop {
        let Some(own) = session.upgrade() else { return };
        let until = own.used() + IDLE;
        // The list holds one of these references, this function the other.
        let is_in_use = Arc::strong_count(&own) > 2;
        drop(own);
        if is_in_use {
            tokio::time::sleep(IDLE).await;
        } else if until <= Instant::now() {
            return;
        } else {
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::config::{McpServer, Transport};

    fn server(name: &str) -> Arc<Server> {
        let transport = Transport::StreamableHttp { url: "http://127.0.0.1:9/mcp".to_owned() };
        let headers = BTreeMap::from([("x-service".to_owned(), SecretString::from("service"))]);
        let (connect_timeout, call_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
        let config = McpServer {
            name: name.to_owned(),
            transport,
            headers,
            env: BTreeMap::new(),
            connect_timeout,
            call_timeout,
            allow: Vec::new(),
            deny: Vec::new(),
            read: Vec::new(),
            write: Vec::new(),
            passthrough: true,
            guarded: false,
        };
        Arc::new(Server::new(config, DefinitionVerifier::default()))
    }

    #[tokio::test]
    async fn a_session_is_its_tokens_alone_and_there_are_only_so_many() {
        let (sessions, shutdown) = (Sessions::default(), Shutdown::new());
        let (one, other) = (server("one"), server("other"));
        let claim =
            |server: &Arc<Server>, token: &str| sessions.claim(server, &SecretString::from(token), &shutdown);
        let (alice, is_new) = claim(&one, "alice").unwrap();
        assert!(is_new);
        assert!(Arc::ptr_eq(&alice, &claim(&one, "alice").unwrap().0));
        let sent: Vec<(&str, &str)> = alice
            .server
            .config
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose_secret()))
            .collect();
        assert_eq!(sent, [("authorization", "Bearer alice")], "nothing of the service goes along");
        assert!(!Arc::ptr_eq(&alice, &claim(&one, "bob").unwrap().0));
        assert!(!Arc::ptr_eq(&alice, &claim(&other, "alice").unwrap().0));
        // Unused sessions are evicted; the one in use stays.
        for number in 0..2 * MAX_SESSIONS {
            claim(&one, &number.to_string()).unwrap();
        }
        assert_eq!(sessions.open.lock().unwrap().len(), MAX_SESSIONS);
        assert!(Arc::ptr_eq(&alice, &claim(&one, "alice").unwrap().0));
        let held: Vec<_> =
            (0..MAX_SESSIONS - 1).map(|number| claim(&other, &number.to_string()).unwrap()).collect();
        assert!(
            matches!(claim(&one, "carol"), Err(CallError::NotConnected { .. })),
            "{} are held",
            held.len()
        );
        sessions.close("other");
        assert!(
            !held.is_empty()
                && held.iter().all(|(own, _)| own.stop.is_cancelled())
                && !alice.stop.is_cancelled()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_ends_when_nobody_uses_it() {
        let (sessions, shutdown) = (Sessions::default(), Shutdown::new());
        let (own, _) = sessions.claim(&server("one"), &SecretString::from("alice"), &shutdown).unwrap();
        let begun = Instant::now();
        let weak = Arc::downgrade(&own);
        drop(own);
        idle(&weak).await;
        assert_eq!(begun.elapsed(), IDLE);
    }
}
