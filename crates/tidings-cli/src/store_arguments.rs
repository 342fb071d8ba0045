//! The flag that names a shared store. It is the same for every command that has it; each says in its own help what it keeps there.

use clap::Args;

/// A database in the place of the data folder's.
#[derive(Debug, Clone, Args)]
pub(crate) struct SharedStore {
    #[arg(
        id = "store",
        long,
        env = "TIDINGS_STORE",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) url: Option<String>,
}
