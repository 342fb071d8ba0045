//! The snippets of the concept pages and of the README, compiled and run as doctests; nothing is here for users.

#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;

    #[doc = include_str!("../../../docs/concepts/broker.md")]
    struct Broker;

    #[doc = include_str!("../../../docs/concepts/choreography.md")]
    struct Choreography;

    #[doc = include_str!("../../../docs/concepts/consumer.md")]
    struct Consumer;

    #[doc = include_str!("../../../docs/concepts/dead_letter.md")]
    struct DeadLetter;

    #[doc = include_str!("../../../docs/concepts/envelope.md")]
    struct Envelope;

    #[doc = include_str!("../../../docs/concepts/event.md")]
    struct Event;

    #[doc = include_str!("../../../docs/concepts/producer.md")]
    struct Producer;
}
