//! Who stands at the proxy's door: takes connections or refuses them, and sees to it that a cut is done when the test hears so.

use super::carry::carry;
use super::{Faults, Shared};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections that wait for being taken.
const BACKLOG: u32 = 1024;
/// How long the door rests after the machine had no descriptor left.
const DOOR_REST: Duration = Duration::from_millis(10);

/// A port of the proxy's own.
pub(super) struct Door {
    address: SocketAddr,
    /// Bound and never listening: it keeps the port while connections are refused, which the machine does where nobody listens.
    _place: TcpSocket,
    runtime: Runtime,
}

impl Door {
    pub(super) fn open(listen: SocketAddr) -> io::Result<Self> {
        let place = bind(listen)?;
        Ok(Self {
            address: place.local_addr()?,
            _place: place,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()?,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps the door on a thread of its own until the faults say that the proxy ends.
    pub(super) fn keep(
        self,
        target: String,
        faults: watch::Receiver<Faults>,
        shared: Arc<Shared>,
    ) -> io::Result<JoinHandle<()>> {
        let listener = {
            let _inside = self.runtime.enter();
            bind(self.address)?.listen(BACKLOG)?
        };
        std::thread::Builder::new()
            .name("fault-proxy".to_owned())
            .spawn(move || {
                let target = Arc::from(target);
                let keeping = keep(self.address, listener, &target, faults, &shared);
                self.runtime.block_on(keeping);
            })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // The port outlives its listeners, and old connections of it that the machine still remembers.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn keep(
    address: SocketAddr,
    listener: TcpListener,
    target: &Arc<str>,
    mut faults: watch::Receiver<Faults>,
    shared: &Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut cuts = 0;
    loop {
        tokio::select! {
            biased;
            changed = faults.changed() => {
                let now = *faults.borrow_and_update();
                if changed.is_err() || now.ends {
                    while connections.join_next().await.is_some() {}
                    return;
                }
                if now.refuses {
                    // Who waits to be taken is reset with it.
                    listener = None;
                } else if listener.is_none() {
                    // Nobody else has the port, so that this fails only where the machine has no descriptor left; the next change tries again.
                    listener = bind(address).and_then(|socket| socket.listen(BACKLOG)).ok();
                }
                if cuts != now.cuts {
                    cuts = now.cuts;
                    while connections.join_next().await.is_some() {}
                }
                shared.obeys(now.revision);
            }
            Some(_ended) = connections.join_next() => {}
            taken = take(listener.as_ref()) => match taken {
                Ok((client, _)) => {
                    shared.counts.accepted.fetch_add(1, Ordering::AcqRel);
                    shared.counts.open.fetch_add(1, Ordering::AcqRel);
                    let (target, faults) = (Arc::clone(target), faults.clone());
                    connections.spawn(carry(client, target, cuts, faults, Arc::clone(shared)));
                }
                Err(_) => tokio::time::sleep(DOOR_REST).await,
            },
        }
    }
}

/// The next connection; none where there is no listener.
async fn take(listener: Option<&TcpListener>) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}
