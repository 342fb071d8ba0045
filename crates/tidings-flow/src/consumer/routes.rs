//! Which handler gets an event, and in which class of calls.

use super::pipeline::{Handler, Pipeline};
use std::collections::HashMap;
use tidings_core::event_type::EventTypeRef;

/// Event types whose handler is remembered; beyond that it is looked up each time.
const ROUTES_MAX: usize = 1_024;

/// Where events of a type go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) handler: usize,
    pub(super) class: usize,
}

/// The handlers of event types.
pub(super) struct Routes {
    known: HashMap<String, Option<Route>>,
    /// The type seen last and its route: events of one type often come together.
    last: (String, Option<Route>),
    /// The classes of calls by handler: all single handlers share the first.
    classes: Vec<usize>,
}

impl Routes {
    pub(super) fn new(pipeline: &Pipeline) -> Self {
        let mut batches = 0;
        let classes = pipeline
            .handlers
            .iter()
            .map(|handler| match handler {
                Handler::Single(_) => 0,
                Handler::Batch(_) => {
                    batches += 1;
                    batches
                }
            })
            .collect();
        Self {
            known: HashMap::new(),
            last: (String::new(), None),
            classes,
        }
    }

    /// Where a message goes that is no event: any handler will do, since none is called.
    pub(super) fn any(&self) -> Route {
        Route {
            handler: 0,
            class: self.classes.first().copied().unwrap_or(0),
        }
    }

    /// Where events of a type go; nowhere if no handler wants them.
    pub(super) fn of(
        &mut self,
        pipeline: &Pipeline,
        event_type: EventTypeRef<'_>,
    ) -> Option<Route> {
        let text = event_type.as_str();
        if self.last.0 == text {
            return self.last.1;
        }
        let route = match self.known.get(text) {
            Some(route) => *route,
            None => {
                let route = self.find(pipeline, event_type);
                if self.known.len() < ROUTES_MAX {
                    self.known.insert(text.to_owned(), route);
                }
                route
            }
        };
        self.last.0.clear();
        self.last.0.push_str(text);
        self.last.1 = route;
        route
    }

    fn find(&self, pipeline: &Pipeline, event_type: EventTypeRef<'_>) -> Option<Route> {
        let handler = handler_of(&pipeline.handlers, event_type)?;
        Some(Route {
            handler,
            class: self.classes.get(handler).copied().unwrap_or(0),
        })
    }
}

/// Where the edited copy of an event goes, which need not be of the type of its original; nowhere if no handler wants it. There are few of them, so that nothing is remembered.
pub(super) fn route_of_copy(pipeline: &Pipeline, event_type: EventTypeRef<'_>) -> Option<Route> {
    Routes::new(pipeline).find(pipeline, event_type)
}

/// The first handler that wants events of a type.
fn handler_of(handlers: &[Handler], event_type: EventTypeRef<'_>) -> Option<usize> {
    handlers.iter().position(|handler| {
        let mut patterns = handler.patterns().iter();
        patterns.any(|pattern| pattern.matches(event_type))
    })
}
