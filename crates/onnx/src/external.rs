//! Tensors' bytes outside of the model file: in files of the model's folder, which are mapped, each once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use graver_ir::{Diag, Lender};
use graver_runtime::{MappedFile, lfs_pointer};

use crate::problem::{Problem, Result, wrong};
use crate::proto::TensorProto;

/// Where a model's external data may lie: in its own folder, or nowhere.
#[derive(Debug, Default)]
pub(crate) struct External {
    folder: Option<PathBuf>,
    /// Those that tensors have been found in.
    files: RefCell<BTreeMap<PathBuf, Arc<dyn Lender>>>,
}

impl External {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, files: RefCell::default() }
    }

    /// The file that has so many bytes of a tensor, and where. It is inside of the model's folder, through no link that leads out.
    pub(crate) fn part(&self, tensor: &TensorProto, bytes: usize) -> Result<(Arc<dyn Lender>, Range<usize>)> {
        let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).or_else(|_| wrong(format!("external data: {key} is `{text}`"))),
        };
        let Some(location) = entry("location") else { return wrong("external data without a location") };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let file = self.file(location)?;
        match offset.checked_add(bytes) {
            Some(end) if end <= file.bytes().len() && length.is_none_or(|length| length == bytes) => Ok((file, offset..end)),
            Some(_) | None => wrong(format!("external data `{location}`: {bytes} bytes at {offset} are not what the file has")),
        }
    }

    fn file(&self, location: &str) -> Result<Arc<dyn Lender>> {
        let path = self.resolve(location)?;
        if let Some(file) = self.files.borrow().get(&path) {
            return Ok(Arc::clone(file));
        }
        let file: Arc<dyn Lender> = Arc::new(MappedFile::open(&path).map_err(|why| failed(location, &why))?);
        if let Some(diag) = lfs_pointer(file.bytes()) {
            return Err(failed(location, &diag));
        }
        self.files.borrow_mut().insert(path, Arc::clone(&file));
        Ok(file)
    }

    fn resolve(&self, location: &str) -> Result<PathBuf> {
        let Some(folder) = &self.folder else { return wrong("external data of a model without a folder") };
        let plain = |component: Component<'_>| matches!(component, Component::Normal(_) | Component::CurDir);
        let outside = || wrong(format!("external data `{location}` lies outside of the model's folder"));
        if location.is_empty() || !Path::new(location).components().all(plain) {
            return outside();
        }
        let real = |path: &Path| path.canonicalize().map_err(|why| failed(location, &why));
        let (folder, path) = (real(folder)?, real(&folder.join(location))?);
        if path.starts_with(&folder) { Ok(path) } else { outside() }
    }
}

fn failed(location: &str, why: &dyn std::fmt::Display) -> Problem {
    Problem::Wrong(Diag::new(format!("external data `{location}`: {why}")))
}
