//! Arrays as NumPy files (`.npy`), read and written.
//!
//! The format is that of NumPy's `numpy.lib.format`, versions 1 to 3. Element types: floats of 2, 4 and 8 bytes, integers of 1 to 8 bytes with a
//! sign and without, and `b1`, of either byte order; C or Fortran order. Anything else, pickled objects among it, is refused.
//! A file is believed in nothing: its header is bounded, and its sizes are held against the bytes that there are.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use graver_ir::{Array, DType, Diag, Lender};

use crate::file::{self, Limit};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own header is at most this long for types without fields.
const MAX_HEADER: usize = 4096;
const MAX_RANK: usize = 32;

/// Reads an array from a file.
///
/// # Errors
/// If it cannot be opened, is no such file, holds what is not supported, or is larger than `limit`.
pub fn read_file(path: impl AsRef<Path>, limit: Limit) -> Result<Array, Diag> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|why| file::failed("npy", path, &why))?;
    read(file, limit).map_err(|diag| file::of_path(diag, path))
}

/// Reads an array; the reader must end with it.
///
/// ```
/// use graver_data::{Limit, npy};
/// use graver_ir::Array;
/// let x = Array::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// let mut file = Vec::new();
/// npy::write(&mut file, &x)?;
/// assert_eq!(npy::read(file.as_slice(), Limit::default())?, x);
/// # Ok::<(), graver_ir::Diag>(())
/// ```
///
/// # Errors
/// As [`read_file`].
pub fn read(reader: impl Read, limit: Limit) -> Result<Array, Diag> {
    let bytes = file::read_all("npy", reader, limit)?;
    let (header, data) = split(&bytes)?;
    let header = Header::parse(header)?;
    header.array(data)
}

/// Reads an array of a whole file that somebody lends, as a mapped file does. Its elements are not copied if they lie there as in memory:
/// in row-major order, in the machine's byte order. It may be of any size: the header's sizes are held against the bytes that follow.
///
/// ```
/// use std::sync::Arc;
/// use graver_data::npy;
/// use graver_ir::{Array, Lender};
/// use graver_runtime::MappedFile;
/// let path = std::env::temp_dir().join(format!("graver-{}.npy", std::process::id()));
/// let x = Array::from_vec([2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// npy::write_file(&path, &x)?;
/// let file: Arc<dyn Lender> = Arc::new(MappedFile::open(&path)?);
/// assert_eq!(npy::read_lent(&file)?, x);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If it is no such file, or holds what is not supported.
pub fn read_lent(file: &Arc<dyn Lender>) -> Result<Array, Diag> {
    let bytes = file.bytes();
    let (header, data) = split(bytes)?;
    let header = Header::parse(header)?;
    if header.swapped || header.fortran {
        return header.array(data);
    }
    header.check(data)?;
    Array::from_lender(header.dtype, header.shape, file, bytes.len() - data.len()..bytes.len()).map_err(|diag| bad(diag.message))
}

/// Writes an array to a file, which appears whole or not at all.
///
/// # Errors
/// If it cannot be written, or the element type is `bf16`, which NumPy lacks.
pub fn write_file(path: impl AsRef<Path>, array: &Array) -> Result<(), Diag> {
    let header = header(array)?;
    file::write_atomic("npy", path.as_ref(), &[&header, array.fetch()?.bytes()])
}

/// Writes an array.
///
/// # Errors
/// As [`write_file`].
pub fn write(mut writer: impl Write, array: &Array) -> Result<(), Diag> {
    let header = header(array)?;
    let bytes = array.fetch()?.bytes();
    let written = writer.write_all(&header).and_then(|()| writer.write_all(bytes));
    written.map_err(|why| Diag::new(format!("cannot write: {why}")).op("npy"))
}

/// All that is before the elements.
fn header(array: &Array) -> Result<Vec<u8>, Diag> {
    let descr = descr(array.dtype()).ok_or_else(|| {
        Diag::new(format!("NumPy has no element type {}", array.dtype())).op("npy").help("cast to f32 before writing")
    })?;
    let sizes: Vec<String> = array.shape().iter().map(|size| format!("{size},")).collect();
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}), }}", sizes.join(" "));
    // The data starts at a multiple of 64, the header ends with a line end.
    let unpadded = MAGIC.len() + 4 + text.len() + 1;
    let length = unpadded.next_multiple_of(64) - MAGIC.len() - 4;
    let size = u16::try_from(length).map_err(|_| Diag::new("the shape is too long for a header").op("npy"))?;
    Ok([MAGIC, &[1, 0], &size.to_le_bytes(), format!("{text:<width$}\n", width = length - 1).as_bytes()].concat())
}

fn bad(what: impl Into<String>) -> Diag {
    Diag::new(what).op("npy")
}

/// NumPy's name of a type, in the machine's byte order, which is little-endian wherever this runs.
const fn descr(dtype: DType) -> Option<&'static str> {
    match dtype {
        DType::F64 => Some("<f8"),
        DType::F32 => Some("<f4"),
        DType::F16 => Some("<f2"),
        DType::I64 => Some("<i8"),
        DType::I32 => Some("<i4"),
        DType::I16 => Some("<i2"),
        DType::I8 => Some("|i1"),
        DType::U64 => Some("<u8"),
        DType::U32 => Some("<u4"),
        DType::U16 => Some("<u2"),
        DType::U8 => Some("|u1"),
        DType::Bool => Some("|b1"),
        DType::BF16 => None,
    }
}

/// The text of the header, and the data after it.
fn split(bytes: &[u8]) -> Result<(&str, &[u8]), Diag> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| bad("not a NumPy file: it does not start with \\x93NUMPY"))?;
    let short = || bad("the file ends inside its header");
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).map_err(|_| short())?, rest),
        [1..=3, ..] | [] => return Err(short()),
        [version, ..] => return Err(bad(format!("version {version} of the format is not known"))),
    };
    if length > MAX_HEADER {
        return Err(bad(format!("a header of {length} bytes; {MAX_HEADER} at most are read")));
    }
    let (header, data) = rest.split_at_checked(length).ok_or_else(short)?;
    Ok((std::str::from_utf8(header).map_err(|_| bad("the header is not text"))?, data))
}

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: DType,
    swapped: bool,
    fortran: bool,
    shape: Vec<usize>,
}

impl Header {
    /// A Python dictionary of a string, a truth value and a tuple of integers, in any order, each once.
    fn parse(text: &str) -> Result<Self, Diag> {
        let mut rest = Tokens(text.trim());
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        rest.expect("{")?;
        while !rest.eat("}") {
            let key = rest.string()?;
            rest.expect(":")?;
            match key {
                "descr" if descr.is_none() => descr = Some(rest.string().map_err(|diag| diag.help("records are not supported"))?),
                "fortran_order" if fortran.is_none() => fortran = Some(rest.truth()?),
                "shape" if shape.is_none() => shape = Some(rest.tuple()?),
                key => return Err(bad(format!("`{key}` is unknown or there twice in the header"))),
            }
            if !rest.eat(",") && !rest.0.starts_with('}') {
                return Err(bad("the header is not a dictionary"));
            }
        }
        let (Some(descr), Some(fortran), Some(shape), "") = (descr, fortran, shape, rest.0) else {
            return Err(bad("the header is not a dictionary of `descr`, `fortran_order` and `shape`"));
        };
        let (dtype, swapped) = element_type(descr)?;
        Ok(Self { dtype, swapped, fortran, shape })
    }

    /// Whether the sizes are those of the data.
    fn check(&self, data: &[u8]) -> Result<(), Diag> {
        let expected = self.shape.iter().try_fold(self.dtype.size(), |product, size| product.checked_mul(*size));
        if expected == Some(data.len()) {
            return Ok(());
        }
        Err(bad(format!("the header says {}{:?}, {} bytes follow", self.dtype, self.shape, data.len())))
    }

    fn array(&self, data: &[u8]) -> Result<Array, Diag> {
        self.check(data)?;
        let size = self.dtype.size();
        let mut data = data.to_vec();
        if self.swapped {
            data.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        if self.fortran {
            data = from_fortran(&data, &self.shape, size);
        }
        Array::from_bytes(self.dtype, self.shape.clone(), &data).map_err(|diag| bad(diag.message))
    }
}

/// The type, and whether its bytes are in the other order.
fn element_type(descr: &str) -> Result<(DType, bool), Diag> {
    let (order, name) = descr.split_at_checked(1).unwrap_or(("", descr));
    let known = DType::ALL.into_iter().find(|dtype| self::descr(*dtype).is_some_and(|known| known[1..] == *name));
    match (known, order) {
        (Some(dtype), "<" | "|" | "=") => Ok((dtype, false)),
        (Some(dtype), ">") => Ok((dtype, true)),
        (Some(_) | None, _) => Err(bad(format!("the element type `{descr}` is not supported")).help("convert with numpy.astype")),
    }
}

/// Elements whose first axis is the fastest, as row-major ones.
fn from_fortran(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut moved = Vec::with_capacity(data.len());
    let mut index = vec![0usize; shape.len()];
    for _ in 0..data.len() / size {
        let source = index.iter().zip(shape).rev().fold(0, |offset, (place, size)| offset * size + place);
        moved.extend_from_slice(&data[source * size..][..size]);
        // The last axis counts first; what is full goes back to zero.
        for (place, size) in index.iter_mut().zip(shape).rev() {
            *place += 1;
            if *place < *size {
                break;
            }
            *place = 0;
        }
    }
    moved
}

/// What is left of a header.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn eat(&mut self, token: &str) -> bool {
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0).trim_start();
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), Diag> {
        if self.eat(token) { Ok(()) } else { Err(bad(format!("the header lacks a `{token}`"))) }
    }

    fn string(&mut self) -> Result<&'a str, Diag> {
        let quote = if self.eat("'") { '\'' } else { '"' };
        if quote == '"' {
            self.expect("\"")?;
        }
        let (text, rest) = self.0.split_once(quote).ok_or_else(|| bad("a string in the header does not end"))?;
        self.0 = rest.trim_start();
        Ok(text)
    }

    fn truth(&mut self) -> Result<bool, Diag> {
        if self.eat("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, Diag> {
        self.expect("(")?;
        let mut sizes = Vec::new();
        while !self.eat(")") {
            let digits = self.0.len() - self.0.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.0.split_at(digits);
            sizes.push(number.parse().map_err(|_| bad(format!("`{number}` is no size")))?);
            self.0 = rest.trim_start();
            if sizes.len() > MAX_RANK {
                return Err(bad(format!("more than {MAX_RANK} axes")));
            }
            if !self.eat(",") && !self.0.starts_with(')') {
                return Err(bad("the shape is not a tuple of sizes"));
            }
        }
        Ok(sizes)
    }
}
