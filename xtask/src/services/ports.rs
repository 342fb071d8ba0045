//! Ports of 127.0.0.1: whether one is taken, and by whom.

use std::fs;
use std::net::TcpListener;

use crate::services::process;

/// Who listens there, as far as we may know; nothing if nobody does.
pub(super) fn holder(port: u16) -> Option<String> {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() {
        return None;
    }
    let listening = socket_of(port).and_then(|socket| {
        process::all()
            .into_iter()
            .find(|pid| holds_socket(*pid, &socket))
    });
    Some(match listening {
        Some(pid) => described(pid),
        None => "another program".to_owned(),
    })
}

/// Its name and where it works: another checkout's server is known by its folder.
fn described(pid: i32) -> String {
    let name = process::name_of(pid).unwrap_or_else(|| "it just ended".to_owned());
    match fs::read_link(format!("/proc/{pid}/cwd")) {
        Ok(folder) => format!("the process {pid} ({name} in {})", folder.display()),
        Err(_) => format!("the process {pid} ({name})"),
    }
}

/// The kernel's number of the listening socket.
fn socket_of(port: u16) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| {
        let table = fs::read_to_string(file).ok()?;
        table.lines().find_map(|line| listening_on(line, port))
    })
}

/// The socket of a line of /proc/net/tcp, if it listens on the port.
fn listening_on(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(local_port, 16) == Ok(port) && *fields.get(3)? == LISTEN;
    is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
}

fn holds_socket(pid: i32, socket: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|at| at.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn who_listens_on_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();

        let while_listening = holder(port).expect("taken");
        drop(listener);

        assert!(
            while_listening.contains(&format!("process {}", std::process::id())),
            "{while_listening}"
        );
        assert_eq!(holder(port), None);
    }

    #[test]
    fn a_connection_that_only_uses_the_port_does_not_listen() {
        let connected =
            "1: 0100007F:3CA0 0100007F:9E22 01 00000000:00000000 00:00000000 00000000 0 0 555 1";
        let listening =
            "1: 0100007F:3CA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 555 1";

        assert_eq!(listening_on(connected, 15520), None);
        assert_eq!(
            listening_on(listening, 15520).as_deref(),
            Some("socket:[555]")
        );
        assert_eq!(listening_on(listening, 15521), None);
    }
}
