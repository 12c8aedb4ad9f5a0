//! A loopback proxy in front of a server that simulates network failures. It forwards data unchanged.

use regreen::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The proxy; `base` replaces the server's base URL.
pub struct Wire {
    pub base: String,
    state: Arc<State>,
    accepting: Shutdown,
}

struct State {
    server: SocketAddr,
    /// Forwarded connections; `None` while cut.
    flow: Mutex<Option<Flow>>,
    /// Open connections that are not forwarded.
    dead: Mutex<Vec<TcpStream>>,
    refused: watch::Sender<usize>,
}

#[derive(Default, Clone)]
struct Flow {
    cut: CancellationToken,
    strand: CancellationToken,
    connections: TaskTracker,
}

impl Wire {
    /// Creates a proxy to the server at a base URL such as `http://127.0.0.1:8000`.
    pub async fn to(base: &str) -> Self {
        let server = base.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let flow = Mutex::new(Some(Flow::default()));
        let state = Arc::new(State { server, flow, dead: Mutex::default(), refused: watch::Sender::new(0) });
        let accepting = Shutdown::new();
        let (shared, stop) = (Arc::clone(&state), accepting.token().clone());
        accepting.spawn(async move { stop.run_until_cancelled(accept(listener, shared)).await });
        Self { base, state, accepting }
    }

    /// Resets all open and new connections until [`Wire::mend`]. All are closed on return.
    pub async fn cut(&self) {
        let flow = {
            let mut flow = self.state.flow.lock().unwrap();
            self.state.refused.send_replace(0);
            flow.take()
        };
        if let Some(Flow { cut, connections, .. }) = flow {
            cut.cancel();
            connections.close();
            connections.wait().await;
        }
    }

    /// Silently stops forwarding on all open connections, as when the remote host disappears. New connections are
    /// forwarded.
    pub fn strand(&self) {
        if let Some(flow) = self.state.flow.lock().unwrap().replace(Flow::default()) {
            flow.strand.cancel();
        }
    }

    /// Forwards new connections again.
    pub fn mend(&self) {
        self.state.flow.lock().unwrap().get_or_insert_default();
    }

    /// Waits until this many connections were rejected since the cut.
    pub async fn turned_away(&self, times: usize) {
        let mut refused = self.state.refused.subscribe();
        let tried = refused.wait_for(|refused| *refused >= times);
        tokio::time::timeout(super::PATIENCE, tried).await.expect("tries while the wire is cut").unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.token().cancel();
        if let Some(flow) = self.state.flow.lock().unwrap().take() {
            flow.cut.cancel();
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        // Spawned under the lock, so that a cut either finds the connection or rejects it.
        let flow = state.flow.lock().unwrap();
        if let Some(flow) = &*flow {
            flow.connections.spawn(pass(client, Arc::clone(&state), flow.clone()));
        } else {
            let _ = client.set_zero_linger();
            state.refused.send_modify(|count| *count += 1);
        }
    }
}

async fn pass(mut client: TcpStream, state: Arc<State>, flow: Flow) {
    let Ok(mut server) = TcpStream::connect(state.server).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        () = flow.cut.cancelled() => drop((client.set_zero_linger(), server.set_zero_linger())),
        () = flow.strand.cancelled() => state.dead.lock().unwrap().extend([client, server]),
    }
}
