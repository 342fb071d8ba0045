//! Plain async functions as handlers, whatever their arguments are: who may call them is said by the traits of their arguments.

use super::IntoHandlerResult;
use std::fmt;
use std::future::Future;

/// A function that can be a handler: `async`, with one to seven arguments.
///
/// It is implemented for every such function; nobody writes an implementation. What the arguments may be is said by [`EventArguments`](super::EventArguments),
/// [`EnvelopeArguments`](super::EnvelopeArguments) and [`BatchArguments`](super::BatchArguments), what it may return by [`HandlerFuture`], so that the compiler's message about a
/// wrong handler names the argument that is wrong.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is an `async fn` with one to seven arguments: first the event, then extractors such as State<T>, Metadata, Emit or Shutdown"
)]
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// What calling it returns.
    type Future;

    /// Its name within the group, where it has one of its own: the ids of what it emits are made from it.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Calls the function.
    ///
    /// **Cancel**: the function stops at its next await.
    fn call(&self, arguments: Arguments) -> Self::Future;

    /// The same function under a name of its own; otherwise its name is the event type or the pattern that it handles, which stays when code moves.
    ///
    /// For a handler that takes the place of one that had this name: what it emits while handling an event again keeps its ids.
    fn named(self, name: impl Into<String>) -> Named<Self>
    where
        Self: Sized,
    {
        Named {
            name: name.into(),
            function: self,
        }
    }
}

/// What a handler of single events returns when it is called: a future that can move between threads, of nothing or a result.
///
/// It is implemented for every such future.
#[diagnostic::on_unimplemented(
    message = "a handler must be an `async fn` that returns nothing or a Result<(), E>",
    label = "this is not what a handler returns"
)]
pub trait HandlerFuture: Future<Output: IntoHandlerResult> + Send + 'static {}

impl<F: Future<Output: IntoHandlerResult> + Send + 'static> HandlerFuture for F {}

/// A handler with a name of its own; made by [`Handler::named`].
#[derive(Clone)]
pub struct Named<F> {
    name: String,
    function: F,
}

impl<F> fmt::Debug for Named<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[diagnostic::do_not_recommend]
impl<F: Handler<Arguments>, Arguments> Handler<Arguments> for Named<F> {
    type Future = F::Future;

    fn name(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn call(&self, arguments: Arguments) -> F::Future {
        self.function.call(arguments)
    }
}

/// Writes `Handler` for functions of one number of arguments behind the first.
macro_rules! handler_of {
    ($($argument:ident $value:ident),*) => {
        impl<F, First, Returned, $($argument,)*> Handler<(First, $($argument,)*)> for F
        where
            F: Fn(First, $($argument),*) -> Returned + Send + Sync + 'static,
        {
            type Future = Returned;

            fn call(&self, (first, $($value,)*): (First, $($argument,)*)) -> Returned {
                (self)(first, $($value),*)
            }
        }
    };
}

super::each_count!(handler_of);
