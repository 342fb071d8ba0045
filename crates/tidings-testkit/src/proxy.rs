//! A TCP proxy on the loopback whose network a test owns: it cuts, refuses, swallows, freezes, delays, narrows and heals. It knows no protocol.

mod carry;
mod doorman;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How long the proxy's thread may take to do what a test asked for. It needs microseconds; a machine under load, milliseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// One of the two ways that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From who connected to the target: requests.
    ToServer,
    /// From the target back: answers.
    ToClient,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToServer, Self::ToClient];
}

/// A network between a client and a server, with the faults that a test wants, when it wants them.
///
/// It runs on a thread of its own, whatever runtime the test has, and may be shared. Faults hold until [`FaultProxy::heal`]; they add up. A dropped
/// proxy cuts what is open.
///
/// # Example
/// ```
/// use std::io::Read as _;
/// use std::net::{TcpListener, TcpStream};
/// use tidings_testkit::proxy::FaultProxy;
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = FaultProxy::start(server.local_addr()?.to_string())?;
/// let mut client = TcpStream::connect(proxy.address())?;
/// let _accepted = server.accept()?;
///
/// assert_eq!(proxy.cut(), 1);
///
/// assert!(client.read(&mut [0]).is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What went through a proxy so far, and what did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyFigures {
    /// Connections taken.
    pub accepted: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Connections ended by [`FaultProxy::cut`], or by [`FaultProxy::heal`] because bytes of theirs had been swallowed.
    pub cut: u64,
    /// Connections ended because the target took none.
    pub unreachable: u64,
    /// Times that a client spoke, first or after an answer: round trips, of whatever is not answered before it was asked for whole.
    pub turns: u64,
    /// Bytes handed to the target.
    pub bytes_to_server: u64,
    /// Bytes handed to clients.
    pub bytes_to_client: u64,
    /// Bytes that a half-open connection took and threw away.
    pub bytes_swallowed: u64,
}

impl FaultProxy {
    /// A proxy on a free port of the loopback, to a target like `127.0.0.1:5432`.
    ///
    /// # Errors
    /// If no port can be had. Whether the target is there is not looked at: a client learns it when it connects.
    pub fn start(target: impl Into<String>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), target)
    }

    /// A proxy on a port that was chosen before, for servers that tell clients where to connect.
    ///
    /// # Errors
    /// If the port is taken, or the address is not of the loopback: faults are for tests on one machine.
    pub fn start_at(listen: SocketAddr, target: impl Into<String>) -> io::Result<Self> {
        if !listen.ip().is_loopback() {
            let reason = format!("a fault proxy listens on the loopback only, not on {listen}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let (faults, seen) = watch::channel(Faults::default());
        let shared = Arc::new(Shared::default());
        let door = doorman::Door::open(listen)?;
        let address = door.address();
        let thread = door.keep(target.into(), seen, Arc::clone(&shared))?;
        Ok(Self {
            address,
            faults,
            shared,
            thread: Some(thread),
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL with the proxy in the place of its host and port; user, path and options stay.
    ///
    /// ```
    /// use tidings_testkit::proxy::FaultProxy;
    /// let proxy = FaultProxy::start("127.0.0.1:5432")?;
    /// let url = proxy.in_place_of("postgres://app:secret@127.0.0.1:5432/shop?sslmode=disable");
    /// assert_eq!(url, format!("postgres://app:secret@{}/shop?sslmode=disable", proxy.address()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn in_place_of(&self, url: &str) -> String {
        let (from, to) = host_of(url);
        format!("{}{}{}", &url[..from], self.address, &url[to..])
    }

    /// Ends every open connection at once with a reset, as when a machine dies or a firewall forgets, and answers how many. New ones are taken.
    pub fn cut(&self) -> u64 {
        let before = self.figures().cut;
        self.change(|faults| faults.cuts += 1);
        self.figures().cut - before
    }

    /// Refuses new connections, as when nobody listens. Those that are open stay open.
    pub fn refuse(&self) {
        self.change(|faults| faults.refuses = true);
    }

    /// Cuts and refuses: the server is gone.
    pub fn down(&self) -> u64 {
        self.refuse();
        self.cut()
    }

    /// Takes bytes of both directions and hands none on, without telling anybody: the other side is gone, and nobody knows. What was taken is lost,
    /// so that [`FaultProxy::heal`] cuts the connections that it belongs to.
    pub fn half_open(&self) {
        self.change(|faults| faults.flows = [Flow::Swallow; 2]);
    }

    /// Half open in one direction: with [`Direction::ToClient`] requests are done, and their answers get lost.
    pub fn swallow(&self, direction: Direction) {
        self.change(|faults| faults.flows[direction as usize] = Flow::Swallow);
    }

    /// Takes the bytes of every connection that is open now and hands none on, for good, without telling anybody; new connections work. So a firewall
    /// forgets, or an address moves to another machine.
    pub fn strand(&self) {
        self.change(|faults| faults.strands += 1);
    }

    /// Hands no byte on, and keeps those that come as long as buffers hold them: a network that is parted, and joined by [`FaultProxy::heal`]
    /// without a loss.
    pub fn freeze(&self) {
        self.change(|faults| faults.flows = [Flow::Hold; 2]);
    }

    /// Every byte of a direction takes so much longer.
    pub fn delay(&self, direction: Direction, time: Duration) {
        self.change(|faults| faults.delays[direction as usize] = time);
    }

    /// Hands on so many bytes a second at most, for each connection.
    pub fn limit(&self, direction: Direction, bytes_per_second: NonZeroU64) {
        self.change(|faults| faults.bytes_per_second[direction as usize] = Some(bytes_per_second));
    }

    /// Ends every fault. Connections of which bytes were swallowed are cut, all others go on.
    pub fn heal(&self) {
        self.change(|faults| {
            *faults = Faults {
                cuts: faults.cuts,
                strands: faults.strands,
                revision: faults.revision,
                ..Faults::default()
            };
        });
    }

    /// What went through so far.
    pub fn figures(&self) -> ProxyFigures {
        let counts = &self.shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Acquire);
        ProxyFigures {
            accepted: read(&counts.accepted),
            open: read(&counts.open),
            cut: read(&counts.cut),
            unreachable: read(&counts.unreachable),
            turns: read(&counts.turns),
            bytes_to_server: read(&counts.bytes[Direction::ToServer as usize]),
            bytes_to_client: read(&counts.bytes[Direction::ToClient as usize]),
            bytes_swallowed: read(&counts.swallowed),
        }
    }

    /// Changes the faults and waits until the door and, for a cut, the connections obey.
    fn change(&self, change: impl FnOnce(&mut Faults)) {
        let mut revision = 0;
        self.faults.send_modify(|faults| {
            change(faults);
            faults.revision += 1;
            revision = faults.revision;
        });
        let waiting =
            self.shared
                .done
                .wait_timeout_while(self.shared.obeyed(), ANSWER_TIME_MAX, |obeyed| {
                    *obeyed < revision
                });
        let (obeyed, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        assert!(
            *obeyed >= revision,
            "the fault proxy at {} does not answer within {ANSWER_TIME_MAX:?}",
            self.address
        );
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.faults.send_modify(|faults| faults.ends = true);
        if let Some(thread) = self.thread.take() {
            // A proxy that panicked has said so already.
            let _said = thread.join();
        }
    }
}

/// What a test wants from the network.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Counts the changes, so that who asked can wait for the last.
    revision: u64,
    /// Counts the cuts: a connection that began under another number ends.
    cuts: u64,
    /// Counts the strandings: a connection that began under another number hands nothing on.
    strands: u64,
    refuses: bool,
    flows: [Flow; 2],
    delays: [Duration; 2],
    bytes_per_second: [Option<NonZeroU64>; 2],
    /// The proxy itself ends.
    ends: bool,
}

/// What becomes of the bytes of a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Forward,
    Hold,
    Swallow,
}

/// What the proxy's thread tells the test.
#[derive(Debug, Default)]
struct Shared {
    counts: Counts,
    /// Guards the last revision that is in force: held for a comparison.
    obeyed: Mutex<u64>,
    done: Condvar,
}

impl Shared {
    fn obeyed(&self) -> MutexGuard<'_, u64> {
        self.obeyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn obeys(&self, revision: u64) {
        *self.obeyed() = revision;
        self.done.notify_all();
    }
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    cut: AtomicU64,
    unreachable: AtomicU64,
    turns: AtomicU64,
    bytes: [AtomicU64; 2],
    swallowed: AtomicU64,
}

/// Where host and port stand in a URL.
fn host_of(url: &str) -> (usize, usize) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| start + at);
    let host = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    (host, end)
}

#[cfg(test)]
mod tests;
