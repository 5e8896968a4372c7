//! Tables of numbers from text: comma-separated values, compressed or not.
//!
//! Columns are numbers; text columns can be read as class labels, numbered in order of first occurrence. Quotes are as RFC 4180
//! has them. A file is believed in nothing: it is bounded as a whole, and every line must have as many columns as the first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use graver_ir::{Array, Diag};

use crate::file::{self, Limit};

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the first line is.
    pub header: Header,
    /// What is between two columns.
    pub delimiter: u8,
    /// The bytes read at most, after decompression. The table takes at most eight times as much memory.
    pub limit: Limit,
}

/// What the first line of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Names of columns.
    Names,
    /// Values: columns are named `0`, `1`, ..
    None,
}

impl Default for Options {
    /// Names, commas, one gibibyte.
    fn default() -> Self {
        Self { header: Header::Names, delimiter: b',', limit: Limit::default() }
    }
}

/// A table of text, of which columns are taken as numbers or labels.
#[derive(Clone, Debug)]
pub struct Table {
    names: Vec<String>,
    rows: Vec<csv::ByteRecord>,
}

/// Reads a file; if its name ends in `.gz` it is decompressed.
///
/// # Errors
/// If it cannot be opened or is no table: which line, and why.
pub fn read_file(path: impl AsRef<Path>, options: Options) -> Result<Table, Diag> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|why| file::failed("csv", path, &why))?;
    let table = if path.extension().is_some_and(|end| end == "gz") {
        read(MultiGzDecoder::new(file), options)
    } else {
        read(file, options)
    };
    table.map_err(|diag| file::of_path(diag, path))
}

/// Reads a table.
///
/// ```
/// use graver_data::csv::{self, Options};
/// let table = csv::read("width,height,kind\n1,2,a\n3,4.5,b\n5,6,a\n".as_bytes(), Options::default())?;
/// assert_eq!(table.numbers(&["height", "width"])?.to_f64(), [2.0, 1.0, 4.5, 3.0, 6.0, 5.0]);
/// let (labels, classes) = table.labels("kind")?;
/// assert_eq!((labels.to_f64(), classes), (vec![0.0, 1.0, 0.0], vec!["a".to_owned(), "b".to_owned()]));
/// # Ok::<(), graver_ir::Diag>(())
/// ```
///
/// # Errors
/// If lines differ in their number of columns, names repeat, or there is more than the limit.
pub fn read(reader: impl Read, options: Options) -> Result<Table, Diag> {
    let bytes = file::read_all("csv", reader, options.limit)?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).delimiter(options.delimiter).from_reader(bytes.as_slice());
    let (mut rows, mut memory) = (Vec::new(), options.limit.0.saturating_mul(8));
    for row in reader.byte_records() {
        let mut row = row.map_err(|why| bad(why.to_string()))?;
        skip_empty_lines(&mut row, &bytes);
        memory = memory.checked_sub(row_bytes(&row)).ok_or_else(|| bad("too many rows and columns for the limit"))?;
        rows.push(row);
    }
    let names = match options.header {
        Header::Names if rows.is_empty() => return Err(bad("an empty file has no names of columns")),
        Header::Names => names_of(&rows.remove(0))?,
        Header::None => (0..rows.first().map_or(0, csv::ByteRecord::len)).map(|column| column.to_string()).collect(),
    };
    Ok(Table { names, rows })
}

/// About what a row takes in memory: itself, its text, and where each column ends.
fn row_bytes(row: &csv::ByteRecord) -> usize {
    160 + row.as_slice().len() + 8 * row.len()
}

/// A record's position is where the one before ended: empty lines between them belong to neither.
fn skip_empty_lines(row: &mut csv::ByteRecord, bytes: &[u8]) {
    let Some(mut position) = row.position().cloned() else { return };
    let start = usize::try_from(position.byte()).unwrap_or(bytes.len()).min(bytes.len());
    let skipped = bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    let lines = skipped.filter(|byte| **byte == b'\n').count() as u64;
    position.set_line(position.line() + lines);
    row.set_position(Some(position));
}

fn names_of(record: &csv::ByteRecord) -> Result<Vec<String>, Diag> {
    let names: Vec<String> = record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(bad(format!("two columns are named `{}`", pair[0]))),
        None => Ok(names),
    }
}

fn bad(what: impl Into<String>) -> Diag {
    Diag::new(what).op("csv")
}

impl Table {
    /// The names of the columns, in order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns as `f64[rows, columns]`, in the order of `names`.
    ///
    /// # Errors
    /// If there is no such column, or a value is not a number: which line. `nan` and `inf` are numbers; nothing is not.
    pub fn numbers<S: AsRef<str>>(&self, names: &[S]) -> Result<Array, Diag> {
        let columns = names.iter().map(|name| self.column(name.as_ref())).collect::<Result<Vec<_>, _>>()?;
        crate::elements("csv", &[self.rows.len(), columns.len()])?;
        let values = (0..self.rows.len()).flat_map(|row| columns.iter().map(move |column| self.number(row, *column)));
        Array::from_vec([self.rows.len(), columns.len()], values.collect::<Result<Vec<f64>, _>>()?)
    }

    /// A column of any text as class labels `i64[rows]`, and the classes in order of first occurrence.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn labels(&self, name: &str) -> Result<(Array, Vec<String>), Diag> {
        let column = self.column(name)?;
        let (mut labels, mut classes) = (Vec::new(), std::collections::BTreeMap::new());
        for row in &self.rows {
            let (next, text) = (classes.len(), String::from_utf8_lossy(row[column].trim_ascii()).into_owned());
            labels.push(*classes.entry(text).or_insert(next));
        }
        let mut ordered: Vec<(usize, String)> = classes.into_iter().map(|(text, class)| (class, text)).collect();
        ordered.sort();
        let labels = labels.into_iter().map(|class| i64::try_from(class).expect("fewer classes than rows")).collect();
        Ok((Array::from_vec([self.rows.len()], labels)?, ordered.into_iter().map(|(_, text)| text).collect()))
    }

    fn column(&self, name: &str) -> Result<usize, Diag> {
        let missing = || bad(format!("there is no column `{name}`")).help(format!("there are {}", shortened(&self.names)));
        self.names.iter().position(|own| own == name).ok_or_else(missing)
    }

    fn number(&self, row: usize, column: usize) -> Result<f64, Diag> {
        let text = String::from_utf8_lossy(self.rows[row][column].trim_ascii());
        text.parse().map_err(|_| {
            let line = self.rows[row].position().map_or(0, csv::Position::line);
            let text: String = text.chars().take(40).collect();
            bad(format!("line {line}, column `{}`: `{text}` is not a number", self.names[column]))
        })
    }
}

fn shortened(names: &[String]) -> String {
    let some: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
    if names.len() > some.len() { format!("{}, .. ({} in all)", some.join(", "), names.len()) } else { some.join(", ") }
}
