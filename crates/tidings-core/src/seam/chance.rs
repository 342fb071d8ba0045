//! Randomness as a seam.

/// Where random bits come from.
pub trait Chance: Send + Sync + 'static {
    /// 64 random bits; no secrets are made from them.
    fn next_u64(&self) -> u64;
}
