//! The front door, used as a program uses it.

// `cfg(test)` is always set here; it tells clippy that helpers are test code, too.
#[cfg(test)]
mod compile_errors;
#[cfg(test)]
mod consumers;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod naming;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod shop;
