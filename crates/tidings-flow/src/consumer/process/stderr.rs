//! What a process writes to stderr: always read, its end kept as a reason, and passed on where that is wanted.

use std::sync::{Arc, Mutex, PoisonError};
use tidings_core::limits::REASON_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStderr;

/// Bytes of one read, and of a line that is passed on in one piece.
const CHUNK_BYTES: usize = 8_192;

/// Where the stderr of a handler's process goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StderrRoute {
    /// Only its end is kept, for the reason of a failure.
    Kept,
    /// To our own stderr, in whole lines; its end is kept as well.
    PassedOn,
}

/// The last bytes that a process wrote to stderr.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Adds what was written next; what is older than a reason can hold is forgotten.
    pub(super) fn push(&mut self, written: &[u8]) {
        self.bytes.extend_from_slice(written);
        // Cutting at twice the limit moves each byte once on average, however small the writes are.
        if self.bytes.len() > 2 * REASON_BYTES_MAX {
            self.bytes.drain(..self.bytes.len() - REASON_BYTES_MAX);
            self.cut = true;
        }
    }

    /// The last lines that are not empty, at most `bytes_max` bytes of text.
    ///
    /// Control characters are written out: a reason is printed on terminals.
    pub(super) fn text(&self, bytes_max: usize) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let whole = if self.cut {
            text.split_once('\n').map_or(&*text, |(_, rest)| rest)
        } else {
            &text
        };
        let mut last: Vec<String> = Vec::new();
        let mut room = bytes_max;
        for line in whole.rsplit(['\n', '\r']) {
            let line = printable(line.trim_end());
            if line.is_empty() {
                continue;
            }
            if line.len() >= room {
                if last.is_empty() {
                    let start = line.ceil_char_boundary(line.len().saturating_sub(bytes_max));
                    last.push(line.get(start..).unwrap_or_default().to_owned());
                }
                break;
            }
            room -= line.len() + 1;
            last.push(line);
        }
        last.reverse();
        last.join("\n")
    }
}

fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for character in line.chars() {
        if character.is_control() && character != '\t' {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

/// The tail of a process that is still running.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedTail {
    /// Guards the bytes between the one who reads stderr and the one who words a reason; held for a copy of one chunk.
    tail: Arc<Mutex<Tail>>,
}

impl SharedTail {
    /// Words a reason with what was written so far.
    pub(super) fn reason(&self, what: &str) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        super::exit::reason(what, &tail)
    }

    fn push(&self, written: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.push(written);
    }
}

/// Reads stderr to its end.
///
/// **Cancel**: a line that was not passed on yet is lost; the tail stays.
pub(super) async fn drain(mut stderr: ChildStderr, tail: SharedTail, route: StderrRoute) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut line = Vec::new();
    loop {
        // A stream that cannot be read has ended for us: the reason tells what came before.
        let count = stderr.read(&mut chunk).await.unwrap_or(0);
        let written = chunk.get(..count).unwrap_or_default();
        tail.push(written);
        if route == StderrRoute::Kept {
            if count == 0 {
                return;
            }
            continue;
        }
        line.extend_from_slice(written);
        let whole = match line.iter().rposition(|&byte| byte == b'\n') {
            _ if count == 0 || line.len() >= CHUNK_BYTES => line.len(),
            Some(end) => end + 1,
            None => 0,
        };
        pass_on(&line, whole).await;
        line.drain(..whole);
        if count == 0 {
            return;
        }
    }
}

async fn pass_on(line: &[u8], count: usize) {
    let Some(whole) = line.get(..count).filter(|whole| !whole.is_empty()) else {
        return;
    };
    let mut out = tokio::io::stderr();
    // A stderr that cannot be written leaves no place to say so.
    let _ = out.write_all(whole).await;
    let _ = out.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_that_are_not_empty_are_kept() {
        let mut tail = Tail::default();
        for number in 0..100_000 {
            tail.push(format!("line {number}\n\n").as_bytes());
        }

        let text = tail.text(40);

        assert_eq!(text, "line 99997\nline 99998\nline 99999");
        assert!(tail.bytes.len() <= 2 * REASON_BYTES_MAX);
    }

    #[test]
    fn what_is_no_text_becomes_printable() {
        let mut tail = Tail::default();
        tail.push(b"10%\r20%\r\n\x1b[31mred\xff\tend\n");

        assert_eq!(tail.text(1_000), "10%\n20%\n\\u{1b}[31mred\u{fffd}\tend");
    }

    #[test]
    fn a_last_line_beyond_the_limit_keeps_its_end() {
        let mut tail = Tail::default();
        tail.push("ü".repeat(10).as_bytes());

        assert_eq!(tail.text(5), "üü");
        assert_eq!(tail.text(0), "");
    }
}
