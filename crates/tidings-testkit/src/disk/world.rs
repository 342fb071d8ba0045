//! What a disk holds: what a program sees, what is flushed, and what lies between.

use super::fault::{Faults, Operation};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use tidings_core::seam::{FileInfo, OpenMode};

/// What of the unflushed is lost at a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of it.
    Everything,
    /// None of it: the disk was just as fast.
    Nothing,
    /// Each write and each name on its own is kept, lost, or, for a write, torn at a byte. The same seed gives the same loss.
    Torn {
        /// Where the choices come from.
        seed: u64,
    },
}

/// A file, whatever its name is.
pub(super) type NodeId = usize;

#[derive(Debug, Clone, Default)]
struct Node {
    /// As a program sees it.
    bytes: Vec<u8>,
    /// As the disk holds it.
    flushed: Vec<u8>,
    /// What happened since, in order.
    unflushed: Vec<Change>,
    mode: u32,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetBytes(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(NodeId),
}

#[derive(Debug, Clone)]
enum NameChange {
    Made(PathBuf, Entry),
    Removed(PathBuf),
    Renamed(PathBuf, PathBuf),
}

/// The whole disk.
#[derive(Debug)]
pub(super) struct World {
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, Entry>,
    flushed_names: BTreeMap<PathBuf, Entry>,
    unflushed_names: Vec<NameChange>,
    modes: BTreeMap<PathBuf, u32>,
    locks: HashSet<NodeId>,
    capacity: Option<u64>,
    pub(super) read_only: bool,
    /// Grows with each power cut.
    pub(super) power: u64,
    pub(super) faults: Faults,
}

impl Default for World {
    fn default() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Entry::Directory)]);
        Self {
            nodes: Vec::new(),
            names: root.clone(),
            flushed_names: root,
            unflushed_names: Vec::new(),
            modes: BTreeMap::new(),
            locks: HashSet::new(),
            capacity: None,
            read_only: false,
            power: 0,
            faults: Faults::default(),
        }
    }
}

impl World {
    pub(super) fn step(&mut self, operation: Operation) -> io::Result<()> {
        self.faults.step(operation)?;
        let changes = matches!(
            operation,
            Operation::CreateDirectories
                | Operation::MakePrivate
                | Operation::Rename
                | Operation::Remove
                | Operation::Lock
                | Operation::Write
                | Operation::SetBytes
                | Operation::Reserve
        );
        if changes && self.read_only {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn fork(&self) -> Self {
        Self {
            nodes: self.nodes.clone(),
            names: self.names.clone(),
            flushed_names: self.flushed_names.clone(),
            unflushed_names: self.unflushed_names.clone(),
            modes: self.modes.clone(),
            locks: HashSet::new(),
            capacity: self.capacity,
            read_only: self.read_only,
            power: self.power,
            faults: Faults::default(),
        }
    }

    pub(super) fn cut_power(&mut self, loss: Loss) {
        let mut choices = Choices::new(loss);
        for node in &mut self.nodes {
            for change in node.unflushed.drain(..) {
                choices
                    .keep(change)
                    .into_iter()
                    .for_each(|change| apply(&mut node.flushed, &change));
            }
            node.bytes.clone_from(&node.flushed);
        }
        let changes = std::mem::take(&mut self.unflushed_names);
        for change in changes {
            if choices.keeps_name() {
                apply_name(&mut self.flushed_names, &change);
            }
        }
        // What lies in a directory whose own name is lost cannot be reached any more.
        let reachable = |path: &Path| {
            path.ancestors()
                .all(|above| self.flushed_names.contains_key(above))
        };
        let names: BTreeMap<_, _> = self
            .flushed_names
            .iter()
            .filter(|(path, _)| reachable(path))
            .map(|(path, entry)| (path.clone(), *entry))
            .collect();
        self.flushed_names.clone_from(&names);
        self.names = names;
        self.locks.clear();
        self.power += 1;
    }

    pub(super) fn leave_free(&mut self, bytes: Option<u64>) {
        self.capacity = bytes.map(|bytes| self.used().saturating_add(bytes));
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(super) fn set_mode(&mut self, path: &Path, mode: u32) {
        match self.names.get(path) {
            Some(Entry::File(node)) => self.nodes[*node].mode = mode,
            _ => {
                self.modes.insert(path.to_owned(), mode);
            }
        }
    }

    pub(super) fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        match self.names.get(path) {
            Some(Entry::File(node)) => Some(self.nodes[*node].bytes.clone()),
            Some(Entry::Directory) | None => None,
        }
    }

    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) {
        let node = match self.names.get(path) {
            Some(Entry::File(node)) => *node,
            Some(Entry::Directory) | None => self.make_node(),
        };
        self.nodes[node] = Node {
            bytes: bytes.to_vec(),
            flushed: bytes.to_vec(),
            unflushed: Vec::new(),
            mode: self.nodes[node].mode,
        };
        for above in path.ancestors().skip(1) {
            self.names.insert(above.to_owned(), Entry::Directory);
            self.flushed_names
                .insert(above.to_owned(), Entry::Directory);
        }
        self.names.insert(path.to_owned(), Entry::File(node));
        self.flushed_names
            .insert(path.to_owned(), Entry::File(node));
    }

    pub(super) fn take_away(&mut self, path: &Path) {
        self.names.remove(path);
        self.flushed_names.remove(path);
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.names
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::File(_)))
            .map(|(path, _)| path.clone())
            .collect()
    }

    pub(super) fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = path
            .ancestors()
            .filter(|above| !self.names.contains_key(*above))
            .map(Path::to_owned)
            .collect();
        for directory in missing.into_iter().rev() {
            self.change_name(NameChange::Made(directory, Entry::Directory));
        }
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.directory(path)?;
        let inside = self.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside
            .filter_map(|name| name.file_name())
            .map(PathBuf::from)
            .collect())
    }

    pub(super) fn info(&self, path: &Path) -> io::Result<FileInfo> {
        match self.names.get(path).ok_or(io::ErrorKind::NotFound)? {
            Entry::Directory => Ok(FileInfo {
                bytes: 0,
                mode: self.modes.get(path).copied().unwrap_or(0o700),
                is_directory: true,
            }),
            Entry::File(node) => Ok(FileInfo {
                bytes: self.len(*node),
                mode: self.nodes[*node].mode,
                is_directory: false,
            }),
        }
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<NodeId> {
        if self.read_only && mode != OpenMode::Read {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        match (self.names.get(path), mode) {
            (Some(Entry::Directory), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(Entry::File(_)), OpenMode::CreateNew) => Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Entry::File(node)), _) => Ok(*node),
            (None, OpenMode::Read | OpenMode::Write) => Err(io::ErrorKind::NotFound.into()),
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                self.directory(path.parent().unwrap_or(Path::new("/")))?;
                let node = self.make_node();
                self.change_name(NameChange::Made(path.to_owned(), Entry::File(node)));
                Ok(node)
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_name(NameChange::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_name(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        self.directory(path)?;
        let inside = |name: &Path| name.parent() == Some(path);
        let (due, rest): (Vec<_>, Vec<_>) =
            self.unflushed_names
                .drain(..)
                .partition(|change| match change {
                    NameChange::Made(name, _) | NameChange::Removed(name) => inside(name),
                    NameChange::Renamed(from, to) => inside(from) || inside(to),
                });
        self.unflushed_names = rest;
        due.iter()
            .for_each(|change| apply_name(&mut self.flushed_names, change));
        Ok(())
    }

    pub(super) fn take_lock(&mut self, node: NodeId) -> bool {
        self.locks.insert(node)
    }

    pub(super) fn free_lock(&mut self, node: NodeId) {
        self.locks.remove(&node);
    }

    pub(super) fn read(&self, node: NodeId, buffer: &mut [u8], offset: u64) -> usize {
        let bytes = self.nodes[node]
            .bytes
            .get(offset as usize..)
            .unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        count
    }

    pub(super) fn write(&mut self, node: NodeId, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let room = self.len(node).saturating_add(self.free_bytes());
        let fits = end.min(room).saturating_sub(offset).min(bytes.len() as u64) as usize;
        self.change(
            node,
            Change::Write {
                offset: offset as usize,
                bytes: bytes[..fits].to_vec(),
            },
        );
        if fits < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn set_bytes(&mut self, node: NodeId, bytes: u64) -> io::Result<()> {
        if bytes.saturating_sub(self.len(node)) > self.free_bytes() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(node, Change::SetBytes(bytes as usize));
        Ok(())
    }

    pub(super) fn flush(&mut self, node: NodeId) {
        let node = &mut self.nodes[node];
        for change in node.unflushed.drain(..) {
            apply(&mut node.flushed, &change);
        }
    }

    pub(super) fn forget_unflushed(&mut self, node: NodeId) {
        self.nodes[node].unflushed.clear();
    }

    pub(super) fn len(&self, node: NodeId) -> u64 {
        self.nodes[node].bytes.len() as u64
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|entry| match entry {
            Entry::File(node) => Some(self.len(*node)),
            Entry::Directory => None,
        });
        named.sum()
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        match self.names.get(path) {
            Some(Entry::Directory) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn make_node(&mut self) -> NodeId {
        self.nodes.push(Node {
            mode: 0o600,
            ..Node::default()
        });
        self.nodes.len() - 1
    }

    fn change(&mut self, node: NodeId, change: Change) {
        let node = &mut self.nodes[node];
        apply(&mut node.bytes, &change);
        node.unflushed.push(change);
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.unflushed_names.push(change);
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::SetBytes(count) => bytes.resize(*count, 0),
        Change::Write { bytes: written, .. } if written.is_empty() => {}
        Change::Write {
            offset,
            bytes: written,
        } => {
            let end = offset + written.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(written);
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, Entry>, change: &NameChange) {
    match change {
        NameChange::Made(path, entry) => {
            names.insert(path.clone(), *entry);
        }
        NameChange::Removed(path) => {
            names.remove(path);
        }
        NameChange::Renamed(from, to) => {
            if let Some(entry) = names.remove(from) {
                names.insert(to.clone(), entry);
            }
        }
    }
}

/// What becomes of each unflushed change.
struct Choices {
    loss: Loss,
    random: fastrand::Rng,
}

impl Choices {
    fn new(loss: Loss) -> Self {
        let seed = if let Loss::Torn { seed } = loss {
            seed
        } else {
            0
        };
        Self {
            loss,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn keep(&mut self, change: Change) -> Option<Change> {
        match self.loss {
            Loss::Everything => None,
            Loss::Nothing => Some(change),
            Loss::Torn { .. } => match (self.random.u8(0..4), change) {
                (0, _) => None,
                (1, Change::Write { offset, mut bytes }) => {
                    bytes.truncate(self.random.usize(0..=bytes.len()));
                    Some(Change::Write { offset, bytes })
                }
                (_, change) => Some(change),
            },
        }
    }

    fn keeps_name(&mut self) -> bool {
        match self.loss {
            Loss::Everything => false,
            Loss::Nothing => true,
            Loss::Torn { .. } => self.random.bool(),
        }
    }
}
