//! Lines of a file or of standard input, plain or gzip, each within a limit.

use crate::failure::Failure;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::Path;
use std::sync::Arc;
use tidings::limits::LINE_BYTES_MAX;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 262_144;

/// What the next line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without its line break.
    Whole(Vec<u8>),
    /// A line over the limit; it went to the sink as it was.
    TooLong {
        /// Its length.
        bytes: u64,
    },
}

/// Reads lines.
pub(crate) struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    /// The line that was read last, from 1.
    pub(crate) number: u64,
}

impl Lines {
    /// Opens a file, or standard input for `-`; gzip is known by its first bytes.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::file("read", path.display(), &error);
        let raw: Box<dyn Read + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            Box::new(File::open(path).map_err(failed)?)
        };
        Self::over(raw).map_err(failed)
    }

    /// Lines that are in memory.
    pub(crate) fn of(bytes: Arc<[u8]>) -> Self {
        Self {
            reader: BufReader::new(Box::new(Cursor::new(bytes))),
            number: 0,
        }
    }

    /// Everything that is left, unpacked; `None` if that is more than so many bytes.
    pub(crate) fn rest(self, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let read = self.reader.take(bytes_max + 1).read_to_end(&mut bytes)?;
        Ok((read as u64 <= bytes_max).then_some(bytes))
    }

    fn over(raw: Box<dyn Read + Send>) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, raw);
        if reader.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
            let unpacked: Box<dyn Read + Send> = Box::new(MultiGzDecoder::new(reader));
            reader = BufReader::with_capacity(BUFFER_BYTES, unpacked);
        }
        Ok(Self { reader, number: 0 })
    }

    /// Whether the next line may have to be waited for.
    pub(crate) fn may_wait(&self) -> bool {
        !self.reader.buffer().contains(&b'\n')
    }

    /// The next line; `None` at the end. A line over the limit is copied to `sink` piece by piece.
    pub(crate) fn next(&mut self, sink: &mut dyn Write) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        // One byte more than the limit tells whether the line is over it.
        let read = (&mut self.reader)
            .take(LINE_BYTES_MAX as u64 + 1)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        } else if line.len() > LINE_BYTES_MAX {
            return self.skip_long(&line, sink).map(Some);
        }
        if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(Line::Whole(line)))
    }

    fn skip_long(&mut self, start: &[u8], sink: &mut dyn Write) -> io::Result<Line> {
        let mut bytes = start.len() as u64;
        sink.write_all(start)?;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or(buffer);
            sink.write_all(piece)?;
            bytes += piece.len() as u64;
            let used = piece.len() + usize::from(end.is_some());
            let ended = end.is_some() || buffer.is_empty();
            self.reader.consume(used);
            if ended {
                sink.write_all(b"\n")?;
                return Ok(Line::TooLong { bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: Vec<u8>) -> (Vec<Line>, Vec<u8>) {
        let mut lines = Lines::over(Box::new(Cursor::new(bytes))).unwrap();
        let (mut read, mut sink) = (Vec::new(), Vec::new());
        while let Some(line) = lines.next(&mut sink).unwrap() {
            read.push(line);
        }
        (read, sink)
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_in_any_usual_way() {
        let (read, _) = lines(b"\xef\xbb\xbfone\r\n\ntwo\nthree".to_vec());

        assert_eq!(
            read,
            vec![whole("one"), whole(""), whole("two"), whole("three")]
        );
    }

    #[test]
    fn gzip_is_known_by_its_first_bytes_also_in_several_members() {
        let mut bytes = Vec::new();
        for text in ["one\n", "two\n"] {
            let mut encoder =
                flate2::write::GzEncoder::new(&mut bytes, flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
        }

        assert_eq!(lines(bytes).0, vec![whole("one"), whole("two")]);
    }

    #[test]
    fn a_line_over_the_limit_goes_to_the_sink_and_the_rest_is_read() {
        let long = vec![b'x'; LINE_BYTES_MAX + 300_000];
        let mut bytes = b"before\n".to_vec();
        bytes.extend_from_slice(&long);
        bytes.extend_from_slice(b"\nafter\n");

        let (read, sink) = lines(bytes);

        assert_eq!(
            read,
            vec![
                whole("before"),
                Line::TooLong {
                    bytes: long.len() as u64
                },
                whole("after")
            ]
        );
        assert_eq!(sink.len(), long.len() + 1);
    }

    #[test]
    fn what_is_held_is_read_again_and_what_is_too_long_for_that_is_not() {
        let over = |bytes: &[u8]| Lines::over(Box::new(Cursor::new(bytes.to_vec()))).unwrap();

        let held = over(b"one\ntwo").rest(7).unwrap().unwrap();
        let mut again = Lines::of(held.into());
        assert_eq!(again.next(&mut io::sink()).unwrap(), Some(whole("one")));
        assert_eq!(again.next(&mut io::sink()).unwrap(), Some(whole("two")));
        assert_eq!(over(b"one\ntwo").rest(6).unwrap(), None);
    }

    #[test]
    fn a_line_at_the_limit_is_a_line() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX];
        bytes.push(b'\n');

        assert_eq!(
            lines(bytes).0,
            vec![Line::Whole(vec![b'x'; LINE_BYTES_MAX])]
        );
    }
}
