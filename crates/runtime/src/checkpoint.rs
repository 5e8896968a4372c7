//! Named arrays in safetensors files: what a checkpoint is. Reading trusts nothing; writing is whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use graver_ir::{Array, DType, Diag, Error, Lender};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::mapped::MappedFile;
use crate::pointer::lfs_pointer;

/// Named arrays, and texts that belong to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// The arrays by path: `conv1.weight`.
    pub arrays: BTreeMap<String, Array>,
    /// Texts by key, the file's metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Makes an array of some bytes of a file.
type Make<'m> = dyn Fn(DType, &[usize], &[u8]) -> Result<Array, Diag> + 'm;

impl Checkpoint {
    /// Reads a safetensors file.
    ///
    /// # Errors
    /// If the file cannot be read, is malformed, or holds an element type that Graver has not: the path and what.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let wrong = |what: &dyn std::fmt::Display| Error::new(format!("{}: {what}", path.display()));
        let bytes = whole(path).map_err(|error| wrong(&error))?;
        Self::from_bytes(&bytes).map_err(|error| wrong(&error))
    }

    /// The arrays of a safetensors file, which are [mapped](MappedFile): none is read before it is asked for, and none copied before
    /// it is written to. The file must not change as long as one of them lives.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn map(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let wrong = |what: &dyn std::fmt::Display| Error::new(format!("{}: {what}", path.display()));
        let file: Arc<dyn Lender> = Arc::new(MappedFile::open(path).map_err(|error| wrong(&error))?);
        let base = file.bytes().as_ptr().addr();
        let array = |dtype: DType, shape: &[usize], bytes: &[u8]| {
            let first = bytes.as_ptr().addr() - base;
            Array::from_lender(dtype, shape, &file, first..first + bytes.len())
        };
        Self::of(file.bytes(), &array).map_err(|error| wrong(&error))
    }

    /// Reads the bytes of a safetensors file.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::of(bytes, &|dtype, shape, bytes| Array::from_bytes(dtype, shape, bytes))
    }

    fn of(bytes: &[u8], array: &Make<'_>) -> Result<Self, Error> {
        if let Some(diag) = lfs_pointer(bytes) {
            return Err(diag.into());
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| Error::new(error.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| Error::new(error.to_string()))?;
        let mut arrays = BTreeMap::new();
        for (name, view) in file.iter() {
            let dtype = dtype(view.dtype())
                .ok_or_else(|| Error::new(format!("`{name}` has elements of type {:?}, which Graver has not", view.dtype())))?;
            arrays.insert(name.to_owned(), array(dtype, view.shape(), view.data())?);
        }
        let metadata = header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone())).collect();
        Ok(Self { arrays, metadata })
    }

    /// The bytes of a safetensors file; the same arrays always give the same bytes.
    ///
    /// # Errors
    /// If the arrays together exceed what the format can say, or as [`Array::fetch`]: the array's name.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let wrong = |error: safetensors::SafeTensorError| Error::new(error.to_string());
        for (name, array) in &self.arrays {
            array.fetch().map_err(|diag| Error::new(format!("`{name}`: {diag}")))?;
        }
        let views = self.arrays.iter().map(|(name, array)| {
            TensorView::new(stored(array.dtype()), array.shape().to_vec(), array.bytes()).map(|view| (name.as_str(), view))
        });
        let views = views.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let metadata =
            (!self.metadata.is_empty()).then(|| self.metadata.iter().map(|(key, text)| (key.clone(), text.clone())).collect());
        safetensors::serialize(views, metadata).map_err(wrong)
    }

    /// Writes a safetensors file: beside the path first, flushed to disk, then renamed over it, so that a crash leaves the old file or the new.
    ///
    /// # Errors
    /// If the file cannot be written: the path and why.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), &self.to_bytes()?)
    }
}

/// The bytes of a file, which may not be endless, nor larger than the memory.
fn whole(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::other("is no file"));
    }
    let mut bytes = Vec::new();
    let length = usize::try_from(about.len()).map_err(std::io::Error::other)?;
    bytes.try_reserve_exact(length).map_err(|_| std::io::Error::other(format!("no memory for its {length} bytes")))?;
    file.take(about.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// If the file cannot be written: the path and why.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = Path::new(&beside);
    write_flushed(beside, bytes).and_then(|()| std::fs::rename(beside, path)).map_err(|error| {
        // The error that matters is the first one; what is left beside is removed if it can be.
        drop(std::fs::remove_file(beside));
        Error::new(format!("{}: {error}", path.display()))
    })
}

fn write_flushed(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The element type's name in safetensors files.
const fn stored(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}

fn dtype(found: Dtype) -> Option<DType> {
    DType::ALL.into_iter().find(|dtype| stored(*dtype) == found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        let arrays = DType::ALL.iter().map(|dtype| {
            (format!("layer.{dtype}"), Array::from_fn(*dtype, [2, 3], |place| graver_ir::Scalar::int(*dtype, place as i64 % 2)))
        });
        Checkpoint { arrays: arrays.collect(), metadata: BTreeMap::from([("epoch".to_owned(), "3".to_owned())]) }
    }

    #[test]
    fn every_element_type_comes_back_and_bytes_are_the_same_each_time() {
        let bytes = sample().to_bytes().expect("small");
        assert_eq!(Checkpoint::from_bytes(&bytes), Ok(sample()));
        assert_eq!(sample().to_bytes(), Ok(bytes));
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let bytes = sample().to_bytes().expect("small");
        for end in (0..bytes.len()).step_by(7) {
            assert!(Checkpoint::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_arrays() {
        let bytes = sample().to_bytes().expect("small");
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        let (mut wrong, tries) = (0, 2000);
        for _ in 0..tries {
            let mut mutant = bytes.clone();
            for _ in 0..=random(4) {
                let at = random(mutant.len());
                mutant[at] = u8::try_from(random(256)).expect("a byte");
            }
            match Checkpoint::from_bytes(&mutant) {
                // Bytes, not arrays: NaN is not equal to itself.
                Ok(read) => {
                    let written = read.to_bytes().expect("what was read can be written");
                    assert_eq!(Checkpoint::from_bytes(&written).and_then(|read| read.to_bytes()), Ok(written));
                }
                Err(_) => wrong += 1,
            }
        }
        assert!((1..tries).contains(&wrong), "{wrong} of {tries} are refused");
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        for shape in ["[18446744073709551615,2]", "[4294967296,4294967296,4294967296]", "[9223372036854775807]"] {
            let header = format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,8]}}}}"#);
            let mut bytes = u64::try_from(header.len()).expect("short").to_le_bytes().to_vec();
            bytes.extend(header.into_bytes());
            bytes.extend([0; 8]);
            assert!(Checkpoint::from_bytes(&bytes).is_err(), "{shape}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_is_not_read() {
        for path in ["/dev/zero", "/"] {
            let error = Checkpoint::read(path).expect_err("it is no file").to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let folder = std::env::temp_dir().join(format!("graver-checkpoint-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("taken/inside")).expect("the temporary folder is writable");
        let error = sample().write(folder.join("taken")).expect_err("a folder is in the way");
        assert!(error.to_string().contains("taken"), "{error}");
        assert_eq!(std::fs::read_dir(&folder).expect("still there").count(), 1);
        std::fs::remove_dir_all(&folder).expect("ours");
    }
}
