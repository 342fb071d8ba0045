//! Lines that a process writes, each within a limit; a longer one is skipped without holding it.

use std::io;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Bytes of an over-long line that are kept to tell which it was.
const START_BYTES: usize = 4_096;
/// Bytes of one read: the size of a pipe on Linux.
const BUFFER_BYTES: usize = 65_536;

/// One line without its line break.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line.
    Whole(Vec<u8>),
    /// What stood behind the last line break when the stream ended; the writer may have died within it.
    Unended(Vec<u8>),
    /// A line over the limit; its first bytes.
    TooLong(Vec<u8>),
}

/// Reads lines from a stream.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    line_bytes_max: usize,
    is_too_long: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// A reader of lines with at most `line_bytes_max` bytes.
    pub(super) fn new(stream: R, line_bytes_max: usize) -> Self {
        Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, stream),
            line: Vec::new(),
            line_bytes_max,
            is_too_long: false,
        }
    }

    /// The next line; `None` at the end of the stream.
    ///
    /// **Cancel**: nothing is lost, the next call goes on where this one was.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(self.at_end());
            }
            let line_break = available.iter().position(|&byte| byte == b'\n');
            let taken = available
                .get(..line_break.unwrap_or(available.len()))
                .unwrap_or_default();
            if !self.is_too_long {
                if self.line.len() + taken.len() > self.line_bytes_max {
                    self.is_too_long = true;
                    self.line.extend(
                        taken
                            .iter()
                            .take(START_BYTES.saturating_sub(self.line.len())),
                    );
                    self.line.truncate(START_BYTES);
                    self.line.shrink_to_fit();
                } else {
                    self.line.extend_from_slice(taken);
                }
            }
            let used = taken.len() + usize::from(line_break.is_some());
            self.reader.consume(used);
            if line_break.is_some() {
                let line = std::mem::take(&mut self.line);
                return Ok(Some(if std::mem::take(&mut self.is_too_long) {
                    Line::TooLong(line)
                } else {
                    Line::Whole(line)
                }));
            }
        }
    }

    fn at_end(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_too_long) {
            return Some(Line::TooLong(line));
        }
        (!line.is_empty()).then_some(Line::Unended(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8], line_bytes_max: usize) -> Vec<Line> {
        let mut reader = LineReader::new(text, line_bytes_max);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    }

    #[tokio::test]
    async fn lines_end_at_line_breaks_and_the_last_may_lack_one() {
        assert_eq!(
            read(b"a\n\nb\r\nc", 10).await,
            [
                Line::Whole(b"a".to_vec()),
                Line::Whole(Vec::new()),
                Line::Whole(b"b\r".to_vec()),
                Line::Unended(b"c".to_vec()),
            ]
        );
        assert_eq!(read(b"", 10).await, []);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_skipped_and_the_next_is_read() {
        let mut text = vec![b'x'; 3 * BUFFER_BYTES];
        text.extend_from_slice(b"\nok\n");

        let lines = read(&text, BUFFER_BYTES).await;

        assert_eq!(
            lines,
            [
                Line::TooLong(vec![b'x'; START_BYTES]),
                Line::Whole(b"ok".to_vec())
            ]
        );
        assert_eq!(
            read(b"12345\n123456\n", 5).await,
            [
                Line::Whole(b"12345".to_vec()),
                Line::TooLong(b"123456".to_vec())
            ]
        );
    }
}
