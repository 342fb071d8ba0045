//! How the URL of a broker is shown: never with what lets somebody in.

/// The URL without its password; also without a token, which stands alone before the `@`. For messages, notes and listings, also of a URL that cannot be read.
///
/// ```
/// use tidings_core::broker::without_password;
/// assert_eq!(without_password("nats://ann:secret@h:4222?stream=a"), "nats://ann:***@h:4222?stream=a");
/// assert_eq!(without_password("nats://token@h:4222"), "nats://***@h:4222");
/// ```
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // At the last @: one inside a password must not let its rest through.
    let Some((login, hosts)) = rest.rsplit_once('@') else {
        return url.to_owned();
    };
    match login.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{hosts}"),
        // Only a password that is elsewhere makes it the name of a user.
        None if hosts.contains("password_file=") => url.to_owned(),
        None => format!("{scheme}://***@{hosts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn nothing_that_lets_somebody_in_is_shown() {
        for (url, shown) in [
            ("kafka://h:9092?topic=a", "kafka://h:9092?topic=a"),
            (
                "kafka://ann@h?password_file=/p",
                "kafka://ann@h?password_file=/p",
            ),
            ("amqp://ann:se@cret@h/v", "amqp://ann:***@h/v"),
            ("amqp://:secret@h", "amqp://:***@h"),
            ("nats://ann:secret:more@h,i", "nats://ann:***@h,i"),
            ("tls://token@h", "tls://***@h"),
            ("redis://secret@x?mail=a@b", "redis://***@b"),
            ("data@home", "data@home"),
            ("@://", "@://"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
