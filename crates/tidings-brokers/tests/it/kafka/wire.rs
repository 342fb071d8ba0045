//! Records of Kafka as they are on the wire, for what our client cannot write, and for tests without a client.

/// CRC-32C, bit by bit: slow, and short.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))
        })
    })
}

/// A length as records have it: zigzag, seven bits a byte.
fn length(count: usize) -> Vec<u8> {
    let mut rest = count << 1;
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn with_length(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len()), bytes].concat()
}

/// A batch of one record without a key, as it is on the wire: our client cannot write header names that are no text.
pub(crate) fn batch(body: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1];
    record.extend(with_length(body));
    record.extend(length(headers.len()));
    for (name, value) in headers {
        record.extend(with_length(name));
        record.extend(with_length(value));
    }
    let mut checked = vec![0; 2 + 4 + 8 + 8];
    checked.extend([0xff; 8 + 2 + 4]);
    checked.extend(1_u32.to_be_bytes());
    checked.extend(with_length(&record));
    let mut batch = vec![0; 8];
    batch.extend((4 + 1 + 4 + checked.len() as u32).to_be_bytes());
    batch.extend([0xff; 4]);
    batch.push(2);
    batch.extend(checksum(&checked).to_be_bytes());
    batch.extend(checked);
    batch
}

/// Writes a batch to partition 0 by a request of our own (Produce, version 3) and expects that it is taken.
pub(crate) fn produce(host: &str, topic: &str, batch: &[u8]) -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    let mut request = vec![0, 0, 0, 3, 0, 0, 0, 7];
    request.extend(text("raw"));
    request.extend([0xff, 0xff, 0xff, 0xff]);
    request.extend(10_000_u32.to_be_bytes());
    request.extend(1_u32.to_be_bytes());
    request.extend(text(topic));
    request.extend(1_u32.to_be_bytes());
    request.extend(0_u32.to_be_bytes());
    request.extend((batch.len() as u32).to_be_bytes());
    request.extend(batch);
    let mut socket = std::net::TcpStream::connect(host)?;
    socket.write_all(&[&(request.len() as u32).to_be_bytes()[..], &request].concat())?;
    let mut size = [0; 4];
    socket.read_exact(&mut size)?;
    let mut answer = vec![0; u32::from_be_bytes(size) as usize];
    socket.read_exact(&mut answer)?;
    // Behind the number of the request, the topic's name and the partition's number stands the error.
    let error = 4 + 4 + 2 + topic.len() + 4 + 4;
    assert_eq!(answer[error..error + 2], [0, 0], "{answer:?}");
    Ok(())
}
