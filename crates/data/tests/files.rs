//! Files: what is read back, and that no file, however wrong, does more than return an error.

use std::sync::Arc;

use graver_data::csv::{self, Header, Options};
use graver_data::{Key, Limit, npy};
use graver_ir::{Array, DType, Lender, Scalar};
use graver_runtime::MappedFile;

fn npy_file(header: &str, data: &[u8]) -> Vec<u8> {
    let size = u16::try_from(header.len()).expect("short").to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &size, header.as_bytes(), data].concat()
}

fn reads(header: &str, data: &[u8], dtype: DType, shape: &[usize], expected: &[f64]) {
    let array = npy::read(npy_file(header, data).as_slice(), Limit::default()).expect("reads");
    assert_eq!((array.dtype(), array.shape(), array.to_f64().as_slice()), (dtype, shape, expected));
}

fn refuses(header: &str, data: &[u8], expected: &str) {
    let message = npy::read(npy_file(header, data).as_slice(), Limit::default()).expect_err("refused").to_string();
    assert_eq!(message, expected);
}

/// Byte for byte what `numpy.save` of NumPy 2 writes for `np.arange(3, dtype='<i4')`.
#[test]
fn npy_is_written_as_numpy_writes_it() {
    let mut written = Vec::new();
    npy::write(&mut written, &Array::from_vec([3], vec![0i32, 1, 2]).expect("three")).expect("writes");
    let mut expected = b"\x93NUMPY\x01\x00v\x00{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }".to_vec();
    expected.resize(127, b' ');
    expected.extend_from_slice(b"\n\0\0\0\0\x01\0\0\0\x02\0\0\0");
    assert_eq!(written, expected);
}

#[test]
fn npy_round_trips_every_type_that_it_has() {
    for dtype in DType::ALL {
        for shape in [&[][..], &[3], &[2, 3], &[0, 4], &[1, 2, 1, 2]] {
            let x = Array::from_fn(dtype, shape, |position| Scalar::int(dtype, position as i64 % 3 - 1));
            let mut bytes = Vec::new();
            let written = npy::write(&mut bytes, &x);
            if dtype == DType::BF16 {
                assert_eq!(
                    written.expect_err("no bf16").to_string(),
                    "npy: NumPy has no element type bf16; cast to f32 before writing"
                );
            } else {
                assert_eq!(bytes.len() % 64, x.bytes().len() % 64, "data starts at a multiple of 64");
                assert_eq!(npy::read(bytes.as_slice(), Limit::default()), Ok(x));
            }
        }
    }
}

#[test]
fn npy_orders_are_understood() {
    let fortran = "{'shape': (2, 3), 'fortran_order': True, 'descr': '|u1'}";
    reads(fortran, &[1, 4, 2, 5, 3, 6], DType::U8, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    reads(
        "{\"descr\": \">i4\", 'fortran_order': False, 'shape': (2,)}\n",
        &[0, 0, 1, 0, 255, 255, 255, 255],
        DType::I32,
        &[2],
        &[256.0, -1.0],
    );
    reads("{'descr': '<f8', 'fortran_order': False, 'shape': (), }", &1.5f64.to_le_bytes(), DType::F64, &[], &[1.5]);
}

#[test]
fn npy_refuses_what_is_wrong() {
    let head = |descr: &str, shape: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    refuses(&head("<f4", "(3,)"), &[0; 8], "npy: the header says f32[3], 8 bytes follow");
    refuses(&head("<f4", "(1,)"), &[0; 8], "npy: the header says f32[1], 8 bytes follow");
    let huge = "(18446744073709551615, 18446744073709551615)";
    refuses(&head("<f4", huge), &[], "npy: the header says f32[18446744073709551615, 18446744073709551615], 0 bytes follow");
    refuses(&head("<f4", "(18446744073709551616,)"), &[], "npy: `18446744073709551616` is no size");
    refuses(&head("<f4", "(-1,)"), &[], "npy: `` is no size");
    refuses(&head("|O", "(1,)"), &[0], "npy: the element type `|O` is not supported; convert with numpy.astype");
    refuses(&head("|b1", "(1,)"), &[2], "npy: a bool is stored as the byte 0 or 1");
    refuses(&head("<f4", &format!("({})", "1,".repeat(40))), &[0; 4], "npy: more than 32 axes");
    refuses(&"(".repeat(60_000), &[], "npy: a header of 60000 bytes; 4096 at most are read");
    refuses(&"{".repeat(4000), &[], "npy: the header lacks a `\"`");
    refuses(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}",
        &[],
        "npy: the header lacks a `\"`; records are not supported",
    );
    refuses("{'shape': (), 'shape': ()}", &[], "npy: `shape` is unknown or there twice in the header");
    let message = npy::read(b"PK\x03\x04".as_slice(), Limit::default()).expect_err("a zip file").to_string();
    assert_eq!(message, "npy: not a NumPy file: it does not start with \\x93NUMPY");
    let message = npy::read(std::io::repeat(1), Limit(1000)).expect_err("endless").to_string();
    assert_eq!(message, "npy: more than 1000 bytes; raise the limit if the file is trusted");
}

/// Every cut and many changed bytes of a good file: an array or an error, nothing else.
#[test]
fn npy_survives_damage() {
    let mut good = Vec::new();
    npy::write(&mut good, &Array::from_vec([2, 3], vec![1f32; 6]).expect("six")).expect("writes");
    for end in 0..good.len() {
        assert!(npy::read(&good[..end], Limit::default()).is_err(), "cut at {end}");
    }
    let key = Key::seed(0);
    for change in 0..5000 {
        let mut bad = good.clone();
        bad[key.below(3 * change, good.len())] = (key.bits(3 * change + 1) & 255) as u8;
        bad[key.below(3 * change + 2, 80)] ^= 1;
        drop(npy::read(bad.as_slice(), Limit::default()));
    }
}

/// Elements that lie as in memory are the file's own, whatever their number; others are copied. Sizes are held against the bytes.
#[test]
fn a_mapped_file_is_an_array() {
    let path = std::env::temp_dir().join(format!("graver-data-mapped-{}.npy", std::process::id()));
    let mapped = |header: &str, data: &[u8]| {
        // As NumPy has it: the elements begin where a line of the cache does.
        let header = format!("{header:<117}\n");
        std::fs::write(&path, npy_file(&header, data)).expect("a temporary file");
        let file: Arc<dyn Lender> = Arc::new(MappedFile::open(&path).expect("just written"));
        let inside = |array: &Array| file.bytes().as_ptr_range().contains(&array.bytes().as_ptr());
        npy::read_lent(&file).map(|array| (array.to_f64(), inside(&array))).map_err(|diag| diag.to_string())
    };
    let header = |descr: &str, fortran: &str| format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': (2, 2), }}");
    assert_eq!(mapped(&header("<i2", "False"), &[1, 0, 2, 0, 3, 0, 4, 0]), Ok((vec![1.0, 2.0, 3.0, 4.0], true)));
    assert_eq!(mapped(&header(">i2", "False"), &[0, 1, 0, 2, 0, 3, 0, 4]), Ok((vec![1.0, 2.0, 3.0, 4.0], false)));
    assert_eq!(mapped(&header("<i2", "True"), &[1, 0, 2, 0, 3, 0, 4, 0]), Ok((vec![1.0, 3.0, 2.0, 4.0], false)));
    assert_eq!(mapped(&header("|b1", "False"), &[1, 0, 0, 1]), Ok((vec![1.0, 0.0, 0.0, 1.0], false)));
    let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 1024), }";
    assert_eq!(mapped(huge, &[0; 8]), Err("npy: the header says f64[4294967296, 1024], 8 bytes follow".to_owned()));
    let overflow = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }";
    assert!(mapped(overflow, &[]).is_err());
    std::fs::remove_file(path).expect("it is there");
}

#[test]
fn files_are_replaced_whole() {
    let folder = std::env::temp_dir().join(format!("graver-data-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    let (path, x) = (folder.join("x.npy"), Array::from_vec([2], vec![1u8, 2]).expect("two"));
    for _ in 0..2 {
        npy::write_file(&path, &x).expect("writes");
        assert_eq!(npy::read_file(&path, Limit::default()), Ok(x.clone()));
    }
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 1, "nothing is left beside it");
    let nowhere = folder.join("missing").join("x.npy");
    assert!(npy::write_file(&nowhere, &x).is_err());
    let message = npy::read_file(&nowhere, Limit::default()).expect_err("no file").to_string();
    assert!(message.starts_with("npy: ") && message.contains("x.npy"), "{message}");
    std::fs::remove_dir_all(&folder).expect("the folder");
}

fn table(text: &str, header: Header) -> Result<csv::Table, String> {
    csv::read(text.as_bytes(), Options { header, ..Options::default() }).map_err(|diag| diag.to_string())
}

#[test]
fn csv_reads_quotes_spaces_and_numbers() {
    let table = table("\"a b\", c\r\n\" 1.5\",-2e3\r\n inf ,NaN\r\n", Header::Names).expect("a table");
    assert_eq!(table.names(), ["a b", "c"]);
    let values = table.numbers(&["c", "a b"]).expect("numbers");
    assert_eq!((values.shape(), format!("{:?}", values.to_f64()).as_str()), ([2, 2].as_slice(), "[-2000.0, 1.5, NaN, inf]"));
    let columns = self::table("1,2\n3,4\n", Header::None).expect("a table");
    assert_eq!((columns.names(), columns.len()), (["0".to_owned(), "1".to_owned()].as_slice(), 2));
    assert_eq!(columns.numbers(&["1"]).expect("numbers").to_f64(), [2.0, 4.0]);
    assert!(self::table("", Header::None).expect("an empty table").is_empty());
    assert_eq!(self::table("a,b\n", Header::Names).expect("no rows").numbers(&["a"]).expect("none").shape(), [0, 1]);
}

#[test]
fn csv_refuses_what_is_wrong() {
    let number = |text: &str| table(text, Header::Names).expect("a table").numbers(&["a"]).expect_err("no number").to_string();
    assert_eq!(number("a,b\n1,2\n,3\n"), "csv: line 3, column `a`: `` is not a number");
    assert_eq!(number("b,a\n1,2\n\n1,x1\n"), "csv: line 4, column `a`: `x1` is not a number");
    assert_eq!(number("b,c\n1,2\n"), "csv: there is no column `a`; there are b, c");
    let refused = |text: &str| table(text, Header::Names).expect_err("no table");
    assert_eq!(refused("a,a\n1,2\n"), "csv: two columns are named `a`");
    assert_eq!(refused(""), "csv: an empty file has no names of columns");
    assert!(refused("a,b\n1,2\n1\n").contains("line: 3"), "{}", refused("a,b\n1,2\n1\n"));
    let endless = csv::read(std::io::repeat(b'"'), Options { limit: Limit(1 << 16), ..Options::default() });
    let many = csv::read("1\n".repeat(10_000).as_bytes(), Options { limit: Limit(20_000), ..Options::default() });
    assert_eq!(many.expect_err("many").to_string(), "csv: too many rows and columns for the limit");
    assert_eq!(endless.expect_err("endless").to_string(), "csv: more than 65536 bytes; raise the limit if the file is trusted");
}
