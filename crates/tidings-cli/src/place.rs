//! Where a command works: in a data folder, or on a broker that `--url` names.

use crate::arguments::{DATA_DEFAULT, Data};
use crate::failure::Failure;
use crate::folder;
use clap::Args;
use std::path::{Path, PathBuf};
use tidings::broker::Admin;
use tidings::log::LogReader;
use tidings::{Durability, Location, Tidings};

/// Where the events are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) data: Data,
    /// A broker instead of the data folder: kafka://HOST:PORT?topic=NAME, amqp://…, nats://…, sns+sqs://… or eventbridge://…; or the URL of a folder, file:///DIR
    #[arg(long, env = "TIDINGS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,
}

impl Place {
    /// The folder or the broker.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        match &self.url {
            Some(url) => location(url),
            None => Ok(Location::Folder(self.data.folder.clone())),
        }
    }

    /// Opens it for a consumer: on a broker, what fails is kept in the data folder, if one was named.
    pub(crate) async fn open(&self) -> Result<Tidings, Failure> {
        let location = self.location()?;
        #[cfg(feature = "sqlite")]
        if let Location::Broker(url) = &location
            && self.data.folder != Path::new(DATA_DEFAULT)
        {
            let builder = Tidings::builder().program("tidings");
            let folder = &self.data.folder;
            return Ok(builder.connect_with_data(url, folder).await?);
        }
        open(&location, Durability::Synced).await
    }

    /// The data folder whose `state.db` notes what a person does to groups; on a broker the one that was named, if any was.
    pub(crate) fn notes(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(match self.location()? {
            Location::Folder(folder) => Some(folder),
            Location::Broker(_) if self.data.folder == Path::new(DATA_DEFAULT) => None,
            Location::Broker(_) => Some(self.data.folder.clone()),
        })
    }

    /// Opens it for looking at groups: a folder is only read.
    pub(crate) async fn groups(&self) -> Result<Groups, Failure> {
        Ok(match self.location()? {
            Location::Folder(folder) => Groups::Folder(folder::read(&folder)?),
            broker @ Location::Broker(_) => {
                Groups::Broker(open(&broker, Durability::Synced).await?)
            }
        })
    }
}

/// Reads what `--url`, `--from` or `--to` says.
pub(crate) fn location(text: &str) -> Result<Location, Failure> {
    Ok(text.parse::<Location>()?)
}

/// Opens a folder for writing, or connects to a broker.
pub(crate) async fn open(location: &Location, durability: Durability) -> Result<Tidings, Failure> {
    match location {
        Location::Folder(folder) => folder::write_with(folder, durability).await,
        Location::Broker(url) => {
            let builder = Tidings::builder().program("tidings");
            Ok(builder.connect(url).await?)
        }
    }
}

/// Groups as an operator sees them, wherever they are.
pub(crate) enum Groups {
    Folder(LogReader),
    Broker(Tidings),
}

impl Groups {
    /// The port.
    pub(crate) fn admin(&self) -> Result<&dyn Admin, Failure> {
        match self {
            Self::Folder(reader) => Ok(reader),
            Self::Broker(tidings) => Ok(tidings.admin()?),
        }
    }
}
