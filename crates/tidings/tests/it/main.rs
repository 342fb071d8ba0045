//! The front door, used as a program uses it.

// `cfg(test)` is always set here; it tells clippy that helpers are test code, too.
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod aborts;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod backup;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod beside;
#[cfg(test)]
mod consumers;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod handlers;
#[cfg(test)]
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod inbox;
#[cfg(test)]
mod look_ups;
#[cfg(test)]
mod naming;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod shop;
#[cfg(test)]
#[cfg(feature = "sqlite")]
mod with_data;
