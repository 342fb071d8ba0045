//! Connections by URL, as far as it takes to ask a server whether it is ready.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A server of this machine answers within this time or is not ready.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to the first host of a URL, with its port or the usual one; waits for nothing long.
pub(super) fn open(url: &str, usual_port: u16) -> Result<TcpStream, String> {
    let address = address(url, usual_port);
    let resolved = address
        .to_socket_addrs()
        .map_err(|cause| format!("{address}: {cause}"))?
        .next()
        .ok_or_else(|| format!("{address} is no address"))?;
    let stream = TcpStream::connect_timeout(&resolved, LIMIT)
        .and_then(|stream| {
            stream.set_read_timeout(Some(LIMIT))?;
            stream.set_write_timeout(Some(LIMIT))?;
            Ok(stream)
        })
        .map_err(|cause| format!("{address}: {cause}"))?;
    Ok(stream)
}

/// `host:port` of `scheme://user:password@host:port,host:port/path?query`.
pub(super) fn address(url: &str, usual_port: u16) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let host = hosts.split(',').next().unwrap_or(hosts);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port {
        host.to_owned()
    } else {
        format!("{host}:{usual_port}")
    }
}

/// What a person can read of an answer.
pub(super) fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_every_form_of_url() {
        let cases = [
            ("postgres://a:b@10.0.0.1:15432/x?y=z", "10.0.0.1:15432"),
            ("mysql://root:p@ss@db/tidings", "db:9"),
            ("kafka://one:1,two:2?topic=orders", "one:1"),
            ("nats://[::1]:14222", "[::1]:14222"),
            ("nats://[::1]", "[::1]:9"),
        ];

        for (url, expected) in cases {
            assert_eq!(address(url, 9), expected, "{url}");
        }
    }
}
