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

    #[doc = include_str!("../../../docs/concepts/delivery_guarantees.md")]
    struct DeliveryGuarantees;

    #[doc = include_str!("../../../docs/concepts/envelope.md")]
    struct Envelope;

    #[doc = include_str!("../../../docs/concepts/event.md")]
    struct Event;

    #[cfg(feature = "sqlite")]
    #[doc = include_str!("../../../docs/concepts/inbox.md")]
    struct Inbox;

    #[doc = include_str!("../../../docs/concepts/outbox.md")]
    struct Outbox;

    #[doc = include_str!("../../../docs/concepts/producer.md")]
    struct Producer;

    #[cfg(feature = "sqlite")]
    #[doc = include_str!("../../../docs/concepts/temporal_decoupling.md")]
    struct TemporalDecoupling;
    #[doc = include_str!("../../../docs/concepts/when_handling_fails.md")]
    struct WhenHandlingFails;
}
