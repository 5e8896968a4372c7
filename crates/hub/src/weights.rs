//! Weights in safetensors files, one or several, mapped into memory: nothing is read before it is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use graver_ir::{Array, DType, Diag, Error, Lender, Shape, Type, bf16, f16};
use graver_runtime::{MappedFile, lfs_pointer};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::json::{self, wrong};

/// The weights of a model by name.
#[derive(Debug)]
pub struct Weights {
    source: PathBuf,
    shards: Vec<Arc<dyn Lender>>,
    entries: BTreeMap<String, Entry>,
}

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// The file that says which shard has which weight.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The index of shards.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn read(path: &Path) -> Result<Self, Error> {
        let index: Self = serde_json::from_value(json::value(path)?).map_err(|error| wrong(path, &error))?;
        if let Some(foreign) = index.files().into_iter().find(|file| !is_plain(file)) {
            return Err(wrong(path, &format!("names a file that is not in its folder: {foreign:?}")));
        }
        Ok(index)
    }

    fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

/// The files that a folder's index lists.
#[cfg(feature = "download")]
pub(crate) fn shards(folder: &Path) -> Result<Vec<String>, Error> {
    let index = Index::read(&folder.join(INDEX))?;
    Ok(index.files().into_iter().map(str::to_owned).collect())
}

impl Weights {
    /// The weights of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    ///
    /// A file must not change while it is open.
    ///
    /// # Errors
    /// If there are none, or if a file is missing, malformed, or not what the index says.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let (single, index) = (folder.join("model.safetensors"), folder.join(INDEX));
        if single.is_file() {
            return Self::of_files(&single, std::slice::from_ref(&single));
        }
        if index.is_file() {
            return Self::sharded(folder, &index);
        }
        let help = "save it with `save_pretrained`, which writes safetensors; no other format is read";
        let diag = Diag::new("has neither model.safetensors nor model.safetensors.index.json").help(help);
        Err(diag.op(folder.display().to_string()).into())
    }

    fn sharded(folder: &Path, path: &Path) -> Result<Self, Error> {
        let index = Index::read(path)?;
        let paths: Vec<PathBuf> = index.files().into_iter().map(|file| folder.join(file)).collect();
        let weights = Self::of_files(path, &paths)?;
        let lost = index
            .weight_map
            .iter()
            .filter(|(name, file)| weights.entries.get(*name).is_none_or(|entry| paths[entry.shard] != folder.join(file)));
        let lost = lost.map(|(name, file)| Diag::new(format!("`{name}` is not in {file}")).op(path.display().to_string()));
        Error::from_diags(lost.take(20).collect()).map_or(Ok(weights), Err)
    }

    fn of_files(source: &Path, paths: &[PathBuf]) -> Result<Self, Error> {
        let mut weights = Self { source: source.to_owned(), shards: Vec::new(), entries: BTreeMap::new() };
        let missing =
            paths.iter().filter(|path| !path.is_file()).map(|path| Diag::new("is missing").op(path.display().to_string()));
        if let Some(error) = Error::from_diags(missing.collect()) {
            return Err(error);
        }
        paths.iter().try_for_each(|path| weights.add(path))?;
        Ok(weights)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let map = MappedFile::open(path).map_err(|error| wrong(path, &error))?;
        if let Some(diag) = lfs_pointer(map.bytes()) {
            return Err(wrong(path, &diag));
        }
        let (header, metadata) = SafeTensors::read_metadata(map.bytes()).map_err(|error| wrong(path, &error))?;
        let (shard, start) = (self.shards.len(), header + size_of::<u64>());
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).expect("a key of the same header");
            let (first, last) = info.data_offsets;
            let bytes = start + first..start + last;
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape.clone(), bytes };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(wrong(path, &format!("has `{name}`, and so has another shard")));
            }
        }
        self.shards.push(Arc::new(map));
        Ok(())
    }

    /// What the weights were read from.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The number of elements of all tensors.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.values().map(|entry| entry.shape.iter().product::<usize>()).fold(0, usize::saturating_add)
    }

    /// The type of a tensor as text: also of element types that Graver has not.
    pub(crate) fn describe(&self, name: &str) -> String {
        let entry = self.entry(name);
        match dtype(entry.dtype) {
            Some(dtype) => Type::new(dtype, Shape::new(entry.shape.iter().copied())).to_string(),
            None => format!("{:?}{:?}", entry.dtype, entry.shape),
        }
    }

    /// Whether a tensor can become an array of this type: floats of another type are converted.
    pub(crate) fn fits(&self, name: &str, shape: &[usize], wanted: DType) -> bool {
        let entry = self.entry(name);
        entry.shape == shape && dtype(entry.dtype).is_some_and(|found| found == wanted || found.is_float() && wanted.is_float())
    }

    /// A tensor as an array: the file's own bytes, mapped, where the element type is the one that is wanted, else its only copy.
    ///
    /// # Errors
    /// If there is no such tensor, or if it cannot be an array of this element type.
    pub fn array(&self, name: &str, wanted: DType) -> Result<Array, Error> {
        let Some(entry) = self.entries.get(name) else {
            return Err(wrong(&self.source, &format!("has no `{name}`")));
        };
        let (shape, shard) = (entry.shape.clone(), &self.shards[entry.shard]);
        let bytes = &shard.bytes()[entry.bytes.clone()];
        let Some(found) = dtype(entry.dtype).filter(|_| self.fits(name, &entry.shape, wanted)) else {
            return Err(wrong(&self.source, &format!("`{name}` is {}, which is no {wanted}", self.describe(name))));
        };
        Ok(match (found, wanted) {
            (DType::BF16, DType::F32) => widened(shape, bytes, |bits| bf16::from_bits(bits).to_f32())?,
            (DType::F16, DType::F32) => widened(shape, bytes, |bits| f16::from_bits(bits).to_f32())?,
            (found, wanted) if found == wanted => Array::from_lender(found, shape, shard, entry.bytes.clone())?,
            (found, wanted) => Array::from_bytes(found, shape, bytes)?.cast(wanted),
        })
    }

    fn entry(&self, name: &str) -> &Entry {
        self.entries.get(name).expect("asked for names that are there")
    }
}

/// 16-bit floats as 32-bit ones, in one go.
fn widened(shape: Vec<usize>, bytes: &[u8], widen: impl Fn(u16) -> f32) -> Result<Array, Diag> {
    let value = |pair: &[u8]| widen(u16::from_le_bytes([pair[0], pair[1]]));
    Array::from_vec(shape, bytes.chunks_exact(size_of::<u16>()).map(value).collect())
}

/// Whether a name is that of a file beside its index.
fn is_plain(file: &str) -> bool {
    let mut parts = Path::new(file).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

fn dtype(found: Dtype) -> Option<DType> {
    const KNOWN: [(Dtype, DType); 13] = [
        (Dtype::F64, DType::F64),
        (Dtype::F32, DType::F32),
        (Dtype::F16, DType::F16),
        (Dtype::BF16, DType::BF16),
        (Dtype::I64, DType::I64),
        (Dtype::I32, DType::I32),
        (Dtype::I16, DType::I16),
        (Dtype::I8, DType::I8),
        (Dtype::U64, DType::U64),
        (Dtype::U32, DType::U32),
        (Dtype::U16, DType::U16),
        (Dtype::U8, DType::U8),
        (Dtype::BOOL, DType::Bool),
    ];
    KNOWN.into_iter().find_map(|(stored, dtype)| (stored == found).then_some(dtype))
}
