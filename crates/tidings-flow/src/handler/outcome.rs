//! What a handler function may return.

use super::HandlerResult;
use tidings_core::extract::HandlerError;

/// What a handler function may return: nothing, or a result whose error says what the failure means.
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "this return type does not tell success from failure",
    note = "return nothing, or Result<(), HandlerError>, or Result<(), E> with an error type E: std::error::Error + Send + Sync + 'static"
)]
pub trait IntoHandlerResult {
    /// The same as the runtime reads it.
    fn into_handler_result(self) -> HandlerResult;
}

impl IntoHandlerResult for () {
    fn into_handler_result(self) -> HandlerResult {
        Ok(())
    }
}

impl<E: Into<HandlerError>> IntoHandlerResult for Result<(), E> {
    fn into_handler_result(self) -> HandlerResult {
        self.map_err(Into::into)
    }
}
