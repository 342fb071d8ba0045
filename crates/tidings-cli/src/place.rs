//! Where a command works: in a data folder, or on a broker that `--url` names.

use crate::arguments::{DATA_DEFAULT, Data};
use crate::failure::Failure;
use crate::folder;
use crate::store_arguments::SharedStore;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use std::path::{Path, PathBuf};
use tidings::broker::Admin;
use tidings::flow::explain::word;
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

/// What the command line itself says of a place, for the commands that a person is told to run next: what the environment says holds for them as well, and may hold a password
/// that nobody typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Typed {
    data: Option<String>,
    url: Option<String>,
    store: Option<String>,
}

impl Typed {
    /// For a command that takes `--data`, `--url` and `--store`.
    pub(crate) fn flags(&self) -> String {
        let flags = [
            ("data", &self.data),
            ("url", &self.url),
            ("store", &self.store),
        ];
        let typed = flags.into_iter();
        let typed = typed.filter_map(|(name, value)| Some(flag(name, value.as_ref()?)));
        typed.collect()
    }

    /// For a command about what failed, which takes `--data` and `--store`, and asks no broker.
    pub(crate) fn flags_of_letters(
        &self,
        place: &Place,
        store: &SharedStore,
    ) -> Result<String, Failure> {
        if let Some(url) = &self.store {
            return Ok(flag("store", url));
        }
        Ok(match (&store.url, place.location()?) {
            (Some(_), _) => String::new(),
            (None, Location::Folder(folder)) if self.data.is_some() || place.url.is_some() => {
                flag("data", &folder.to_string_lossy())
            }
            (None, Location::Folder(_)) => String::new(),
            // A folder beside a broker has no log that could be opened.
            (None, Location::Broker(_)) => match place.notes()? {
                Some(folder) => flag("store", &state_url(&folder)),
                None => String::new(),
            },
        })
    }
}

impl FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |id: &str| {
            let is_typed = matches.value_source(id) == Some(ValueSource::CommandLine);
            let mut values = matches.get_raw(id).filter(|_| is_typed)?;
            Some(values.next()?.to_string_lossy().into_owned())
        };
        Ok(Self {
            data: typed("folder"),
            url: typed("url"),
            store: typed("store"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// It has no flags of its own: it stands beside those of a place, and before them, because whoever reads a flag takes it away.
impl Args for Typed {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// A flag at the end of a command that a person may copy.
fn flag(name: &str, value: &str) -> String {
    format!(" --{name} {}", word(value))
}

/// The database of a data folder as a URL.
pub(crate) fn state_url(folder: &Path) -> String {
    let file = folder::state(folder).to_string_lossy().into_owned();
    format!("sqlite:{}", file.replace('%', "%25").replace('?', "%3F"))
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
