//! What a broker can do, as data.

/// How far the order of one key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyOrder {
    /// Across all instances of a group.
    AcrossInstances,
    /// Within one instance of a group.
    OneInstance,
    /// Not at all.
    None,
}

/// What a broker can do; what is missing is supplied by us or refused when a consumer is built, never dropped silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Name of the broker in messages.
    pub name: &'static str,
    /// How far the order of a key is kept.
    pub key_order: KeyOrder,
    /// Whether a group is leased to one instance at a time, so that another one is refused as long as it works.
    pub group_leased: bool,
    /// Whether an instance is told of an [assigned](super::Received::Assigned) scope before it is handed keys that another one had; else keys move in silence.
    pub tells_assignment: bool,
    /// Whether history can be read again.
    pub replay: bool,
    /// Whether a group that joins late sees events published before.
    pub old_events_for_late_groups: bool,
    /// The largest payload in bytes.
    pub payload_bytes_max: usize,
    /// Whether an accepted event survives a power cut of the machine.
    pub synced: bool,
}
