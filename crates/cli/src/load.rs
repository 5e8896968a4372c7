//! Reading programs and arrays from files, which are hostile.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graver_data::npy;
use graver_ir::{Array, DType, Lender, Module, json, text};
use graver_runtime::{MappedFile, lfs_pointer};

use crate::failure::Failure;
use crate::model;

/// The greatest program text that is read, in bytes.
const MAX_PROGRAM: u64 = 1 << 28;

/// Reads a verified module from `.gir` text, `.json` or `.onnx`.
pub(crate) fn module(path: &Path) -> Result<Module, Failure> {
    if let Err(error) = std::fs::metadata(path) {
        return Err(Failure::file(path, error));
    }
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => json::parse,
        Some("gir") => text::parse,
        Some("onnx") => return model::module(path),
        Some(_) | None => return Err(Failure::file(path, "a program is a .gir, .json or .onnx file")),
    };
    let parsed = parse(&source(path)?);
    let module = parsed.map_err(|error| Failure::program(path, error))?;
    if module.entry().is_none() {
        return Err(Failure::file(path, "holds no function"));
    }
    Ok(module)
}

/// A program's text.
pub(crate) fn source(path: &Path) -> Result<String, Failure> {
    let mut source = String::new();
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    // What a pipe or a device holds, no metadata says.
    let read = file.take(MAX_PROGRAM + 1).read_to_string(&mut source).map_err(|error| Failure::file(path, error))?;
    if read as u64 > MAX_PROGRAM {
        return Err(Failure::file(path, format!("more bytes than a program may have ({MAX_PROGRAM})")));
    }
    Ok(source)
}

/// Reads `input_0.npy` to `input_<count - 1>.npy`, as the element types say.
pub(crate) fn inputs(folder: &Path, dtypes: &[DType]) -> Result<Vec<Array>, Failure> {
    let path = |position: usize| input(folder, position);
    if !folder.is_dir() {
        return Err(Failure::file(folder, "is not a folder"));
    }
    let missing: Vec<PathBuf> = (0..dtypes.len()).map(path).filter(|path| !path.exists()).collect();
    if let Some(first) = missing.first() {
        return Err(Failure::file(
            first,
            format!("not found; the program takes {} inputs, {} are missing", dtypes.len(), missing.len()),
        ));
    }
    if path(dtypes.len()).exists() {
        return Err(Failure::file(&path(dtypes.len()), format!("one input too many: the program takes {}", dtypes.len())));
    }
    dtypes.iter().enumerate().map(|(position, dtype)| array(&path(position), *dtype)).collect()
}

/// The file of an input.
pub(crate) fn input(folder: &Path, position: usize) -> PathBuf {
    folder.join(format!("input_{position}.npy"))
}

/// Reads an `.npy` file of this element type. NumPy has no `bf16`: it comes as `float32` and is rounded, or as its bits in `uint16`.
pub(crate) fn array(path: &Path, dtype: DType) -> Result<Array, Failure> {
    let array = as_typed(read(path)?, dtype);
    if array.dtype() == dtype {
        Ok(array)
    } else {
        Err(Failure::file(path, format!("holds {}, the program takes {dtype}; convert it with numpy.astype", array.ty())))
    }
}

/// Reads an `.npy` file, or a `.pb` file of ONNX's test data. It may be of any size: an `.npy` file is mapped, not copied.
pub(crate) fn read(path: &Path) -> Result<Array, Failure> {
    if path.extension().is_some_and(|extension| extension == "pb") {
        return graver_onnx::read_tensor(path).map_err(|failure| Failure::import(path, failure));
    }
    let file: Arc<dyn Lender> = Arc::new(MappedFile::open(path).map_err(|error| Failure::file(path, error))?);
    if let Some(diag) = lfs_pointer(file.bytes()) {
        return Err(Failure::file(path, diag));
    }
    npy::read_lent(&file).map_err(|diag| Failure::file(path, diag))
}

/// What stands for `bf16` where that is wanted; anything else as it is.
pub(crate) fn as_typed(array: Array, dtype: DType) -> Array {
    if dtype != DType::BF16 || ![DType::F32, DType::U16].contains(&array.dtype()) {
        return array;
    }
    if array.dtype() == DType::F32 {
        return array.cast(DType::BF16);
    }
    let shape = array.shape().to_vec();
    Array::from_bytes(DType::BF16, shape, array.bytes()).expect("both have two bytes, and every bit pattern is a float")
}
