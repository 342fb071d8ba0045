//! One connection through the proxy: two pumps, each with a reader that stamps when bytes are due and a writer that obeys the faults.

use super::{Direction, Faults, Flow, Shared};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Bytes read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks on their way in one direction; with a delay this bounds what is under way, as a real line does.
const CHUNKS_MAX: usize = 256;
/// A narrowed direction hands on what fits into this time at once.
const SLICE: Duration = Duration::from_millis(50);

/// Why a connection ends otherwise than by both sides closing it.
enum Broken {
    /// A side is gone, and the other is told so by a reset.
    Gone,
    /// The test cut it, or healed the network after bytes were swallowed.
    Cut,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Carries a connection, which is counted as open, until both sides closed it, it is broken, or there were more cuts than when it was taken.
pub(super) async fn carry(
    client: TcpStream,
    target: Arc<str>,
    cuts: u64,
    faults: watch::Receiver<Faults>,
    shared: Arc<Shared>,
) {
    let counts = &shared.counts;
    let mut watched = faults.clone();
    let ended = tokio::select! {
        biased;
        // The door's sender outlives its connections.
        _ = watched.wait_for(|faults| faults.cuts != cuts || faults.ends) => Err(Broken::Cut),
        ended = connect_and_pump(client, &target, faults, &shared) => ended,
    };
    if matches!(ended, Err(Broken::Cut)) {
        counts.cut.fetch_add(1, Ordering::AcqRel);
    }
    counts.open.fetch_sub(1, Ordering::AcqRel);
}

/// Whatever ends this early drops streams that are reset by it.
async fn connect_and_pump(
    mut client: TcpStream,
    target: &str,
    mut faults: watch::Receiver<Faults>,
    shared: &Shared,
) -> Result<(), Broken> {
    client.set_zero_linger()?;
    // While requests do not get through, neither does the connection itself.
    passable(&mut faults, Direction::ToServer).await;
    let Ok(mut server) = connect(target).await else {
        shared.counts.unreachable.fetch_add(1, Ordering::AcqRel);
        return Err(Broken::Gone);
    };
    // Small writes go out as they come: the proxy adds no time of its own.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut watched = faults.clone();
    let strands = watched.borrow().strands;
    let stranded = tokio::select! {
        biased;
        // The sender outlives its connections.
        _ = watched.wait_for(|faults| faults.strands != strands) => true,
        ended = pump_both(&mut client, &mut server, &faults, shared) => {
            ended?;
            false
        }
    };
    if stranded {
        tokio::join!(swallow(&mut client, shared), swallow(&mut server, shared));
    }
    close(&client)?;
    close(&server)?;
    Ok(())
}

/// What both directions of a connection share.
#[derive(Clone, Copy)]
struct Line<'a> {
    faults: &'a watch::Receiver<Faults>,
    shared: &'a Shared,
    /// The client spoke last.
    asks: &'a AtomicBool,
}

async fn pump_both(
    client: &mut TcpStream,
    server: &mut TcpStream,
    faults: &watch::Receiver<Faults>,
    shared: &Shared,
) -> Result<(), Broken> {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let asks = AtomicBool::new(false);
    let line = Line {
        faults,
        shared,
        asks: &asks,
    };
    tokio::try_join!(
        pump(from_client, to_server, Direction::ToServer, line),
        pump(from_server, to_client, Direction::ToClient, line),
    )?;
    Ok(())
}

/// Takes bytes and tells nobody, not even when the other side gives up.
async fn swallow(from: &mut TcpStream, shared: &Shared) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        shared
            .counts
            .swallowed
            .fetch_add(read as u64, Ordering::AcqRel);
    }
    std::future::pending().await
}

/// Connects so that even a connection that is given up half made is reset.
async fn connect(target: &str) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for address in tokio::net::lookup_host(target).await? {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_zero_linger()?;
        match socket.connect(address).await {
            Ok(connected) => return Ok(connected),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Lets a stream that both sides closed end without a reset.
#[expect(
    deprecated,
    reason = "no other call takes a zero linger back; a drop does not wait without one"
)]
fn close(stream: &TcpStream) -> io::Result<()> {
    stream.set_linger(None)
}

async fn passable(faults: &mut watch::Receiver<Faults>, direction: Direction) {
    let passes = |faults: &Faults| faults.flows[direction as usize] == Flow::Forward;
    // The sender outlives its connections.
    let _open = faults.wait_for(passes).await;
}

async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    line: Line<'_>,
) -> Result<(), Broken> {
    let (put, take) = mpsc::channel(CHUNKS_MAX);
    let writer = Writer {
        to,
        direction,
        faults: line.faults.clone(),
        line,
        swallowed: false,
    };
    tokio::try_join!(
        read(from, put, direction, line.faults.clone()),
        writer.write(take)
    )?;
    Ok(())
}

/// What was read, and when it is due on the other side; at once, mostly.
struct Chunk {
    due: Option<Instant>,
    bytes: Vec<u8>,
}

async fn read(
    mut from: ReadHalf<'_>,
    put: mpsc::Sender<Chunk>,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(_) => {
                // A reset is told no further than bytes get.
                passable(&mut faults, direction).await;
                return Err(Broken::Gone);
            }
        };
        let delay = faults.borrow().delays[direction as usize];
        let chunk = Chunk {
            due: (!delay.is_zero()).then(|| now() + delay),
            bytes: buffer[..read].to_vec(),
        };
        if put.send(chunk).await.is_err() {
            // The writer is broken and says so.
            return Ok(());
        }
    }
}

struct Writer<'a> {
    to: WriteHalf<'a>,
    direction: Direction,
    faults: watch::Receiver<Faults>,
    line: Line<'a>,
    /// Bytes are missing: once the network is healed, this connection cannot go on.
    swallowed: bool,
}

impl Writer<'_> {
    async fn write(mut self, mut take: mpsc::Receiver<Chunk>) -> Result<(), Broken> {
        loop {
            let taken = if self.swallowed {
                tokio::select! {
                    biased;
                    () = passable(&mut self.faults, self.direction) => return Err(Broken::Cut),
                    taken = take.recv() => taken,
                }
            } else {
                take.recv().await
            };
            let Some(chunk) = taken else {
                // The end of a stream gets no further than its bytes.
                passable(&mut self.faults, self.direction).await;
                if self.swallowed {
                    return Err(Broken::Cut);
                }
                self.to.shutdown().await?;
                return Ok(());
            };
            if let Some(due) = chunk.due {
                sleep_until(due).await;
            }
            self.hand_on(&chunk.bytes).await?;
        }
    }

    async fn hand_on(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let way = self.direction as usize;
        let counts = &self.line.shared.counts;
        let mut rest = bytes;
        while !rest.is_empty() {
            let faults = *self.faults.borrow_and_update();
            match faults.flows[way] {
                Flow::Hold => {
                    let moves = |faults: &Faults| faults.flows[way] != Flow::Hold;
                    // The sender outlives its connections.
                    let _open = self.faults.wait_for(moves).await;
                }
                Flow::Swallow => {
                    self.swallowed = true;
                    counts
                        .swallowed
                        .fetch_add(rest.len() as u64, Ordering::AcqRel);
                    return Ok(());
                }
                Flow::Forward if self.swallowed => return Err(Broken::Cut),
                Flow::Forward => {
                    let (slice, took) = slice(rest.len(), faults.bytes_per_second[way]);
                    let (first, behind) = rest.split_at(slice);
                    // Before the bytes are there, so that who answers them is counted behind them.
                    let asks = self.direction == Direction::ToServer;
                    if self.line.asks.swap(asks, Ordering::AcqRel) != asks && asks {
                        counts.turns.fetch_add(1, Ordering::AcqRel);
                    }
                    self.to.write_all(first).await?;
                    counts.bytes[way].fetch_add(slice as u64, Ordering::AcqRel);
                    rest = behind;
                    if !took.is_zero() {
                        sleep_until(now() + took).await;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How many bytes are handed on at once, and how long a direction of so many bytes a second is busy with them.
fn slice(bytes: usize, limit: Option<std::num::NonZeroU64>) -> (usize, Duration) {
    let Some(limit) = limit else {
        return (bytes, Duration::ZERO);
    };
    let fits = (limit.get() as f64 * SLICE.as_secs_f64()) as usize;
    let slice = bytes.min(fits.max(1));
    let took = slice as f64 / limit.get() as f64;
    (slice, Duration::from_secs_f64(took))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the network between two processes runs on the machine's time"
)]
fn now() -> Instant {
    Instant::now()
}
