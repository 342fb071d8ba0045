//! `tidings man`: manual pages.

use crate::arguments::{Arguments, Man};
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory as _;

pub(crate) fn run(arguments: &Man) -> Result<(), Failure> {
    let command = Arguments::command();
    match &arguments.folder {
        Some(folder) => {
            let failed = |error: std::io::Error| {
                Failure::file("write the man pages to", folder.display(), &error)
            };
            std::fs::create_dir_all(folder).map_err(failed)?;
            clap_mangen::generate_to(command, folder).map_err(failed)
        }
        None => {
            let mut page = Vec::new();
            let written = clap_mangen::Man::new(command).render(&mut page);
            written.map_err(|error| Failure::file("write to", "memory", &error))?;
            let mut output = Output::new();
            output.bytes(&page)?;
            output.flush()
        }
    }
}
