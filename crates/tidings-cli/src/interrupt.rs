//! Ctrl-C and SIGTERM: the first asks for a clean stop, the second interrupt ends the process at once.

use tokio::signal::unix::{SignalKind, signal};

/// Why a command was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM: a service manager wants us to drain.
    Terminated,
}

impl Interrupt {
    /// The exit code after a clean stop.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::Terminated => 0,
        }
    }
}

/// Ends when the process is asked to stop; from then on a second Ctrl-C ends it at once.
pub(crate) async fn interrupted() -> Interrupt {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    let reason = tokio::select! {
        _ = interrupt.recv() => Interrupt::Interrupted,
        _ = terminate.recv() => Interrupt::Terminated,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the task lives as long as the process and ends it"
    )]
    tokio::task::spawn(async move {
        interrupt.recv().await;
        std::process::exit(130);
    });
    reason
}
