//! A connection that can be cut: a proxy on loopback in front of a server, for what has to survive a lost network.
//! It neither reads nor changes what goes through.

use regreen::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The proxy; `base` takes the place of the server's own address.
pub struct Wire {
    pub base: String,
    state: Arc<State>,
    accepting: Shutdown,
}

struct State {
    server: SocketAddr,
    /// What now goes through the wire; `None` while it is cut.
    flow: Mutex<Option<Flow>>,
    /// Connections that are open and lead nowhere.
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
    /// To the server at a base URL such as `http://127.0.0.1:8000`.
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

    /// Resets every open connection and each new one, until [`Wire::mend`]. All are gone when it returns.
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

    /// Lets every open connection lead nowhere without a word, as when the machine at its other end is gone. New ones get
    /// through.
    pub fn strand(&self) {
        if let Some(flow) = self.state.flow.lock().unwrap().replace(Flow::default()) {
            flow.strand.cancel();
        }
    }

    /// New connections get through again.
    pub fn mend(&self) {
        self.state.flow.lock().unwrap().get_or_insert_default();
    }

    /// Waits until this many have tried in vain since the cut.
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
        // Spawned under the lock: a cut either finds the connection or refuses it.
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
