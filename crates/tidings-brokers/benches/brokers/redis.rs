//! Redis streams, by as much of its protocol as the figures need: `XADD` of a pipeline of events, and the setting of its append-only file.

use crate::measure::Outcome;
use crate::stage::{self, Publisher};
use std::ops::Range;
use tidings_core::cloudevents::binding::Binding;
use tidings_core::{BoxFuture, Envelope};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

const VARIABLE: &str = "TIDINGS_TEST_REDIS_URL";

/// The connection of one client.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    async fn open(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends commands that are encoded already and reads so many answers.
    async fn call(&mut self, commands: &[u8], answers: usize) -> Outcome<()> {
        self.stream.get_mut().write_all(commands).await?;
        let mut line = Vec::new();
        let mut body = Vec::new();
        for _ in 0..answers {
            line.clear();
            self.stream.read_until(b'\n', &mut line).await?;
            match line.split_first() {
                Some((b'+' | b':', _)) => {}
                Some((b'$', length)) => {
                    // A text of so many bytes, and the end of its line.
                    let length: usize = std::str::from_utf8(length)?.trim_end().parse()?;
                    body.resize(length + 2, 0);
                    self.stream.read_exact(&mut body).await?;
                }
                _ => return Err(format!("Redis: {}", String::from_utf8_lossy(&line)).into()),
            }
        }
        Ok(())
    }
}

/// A command as the protocol has it: an array of texts.
fn command(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoded = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        encoded.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        encoded.extend_from_slice(part);
        encoded.extend_from_slice(b"\r\n");
    }
    encoded
}

/// One client with a connection of its own; what it adds is encoded beforehand.
pub(crate) struct Redis {
    connection: Mutex<Connection>,
    commands: Vec<Vec<u8>>,
}

impl Publisher for Redis {
    fn publish(&self, places: Range<usize>) -> BoxFuture<'_, Outcome<()>> {
        Box::pin(async move {
            let commands = self.commands.get(places).unwrap_or_default();
            let sent = commands.concat();
            self.connection
                .lock()
                .await
                .call(&sent, commands.len())
                .await
        })
    }
}

/// The server of the figures.
pub(crate) struct Server {
    address: String,
}

impl Server {
    pub(crate) fn find() -> Outcome<Self> {
        let url = stage::server(VARIABLE)?;
        Ok(Self {
            address: stage::authority(&url).to_owned(),
        })
    }

    /// Keeps an append-only file and flushes it so.
    pub(crate) async fn flush(&self, when: &str) -> Outcome<()> {
        let mut connection = Connection::open(&self.address).await?;
        for (name, value) in [("appendonly", "yes"), ("appendfsync", when)] {
            let set = command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]);
            connection.call(&set, 1).await?;
        }
        Ok(())
    }

    /// A client of a stream. Each event is one entry with the attributes as fields, as a message elsewhere has them as headers.
    pub(crate) async fn client(&self, stream: &str, events: &[Envelope]) -> Outcome<Redis> {
        let commands = events.iter().map(|envelope| {
            let message = Binding::KAFKA.write(envelope);
            let mut parts: Vec<&[u8]> = vec![b"XADD", stream.as_bytes(), b"*"];
            for (name, value) in &message.headers {
                parts.extend([name.as_bytes(), value.as_bytes()]);
            }
            parts.extend([&b"payload"[..], message.body.as_ref()]);
            command(&parts)
        });
        Ok(Redis {
            connection: Mutex::new(Connection::open(&self.address).await?),
            commands: commands.collect(),
        })
    }

    pub(crate) async fn remove(&self, stream: &str) -> Outcome<()> {
        let mut connection = Connection::open(&self.address).await?;
        let delete = command(&[b"DEL", stream.as_bytes()]);
        connection.call(&delete, 1).await
    }
}
