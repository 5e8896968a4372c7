//! External data: read from the model's folder, and from nowhere else.

use std::path::{Path, PathBuf};

use graver_ir::Op;
use graver_onnx::proto::{StringStringEntryProto, TensorProto};
use graver_onnx::{Imported, Options, import};

use crate::common::{FLOAT, floats, graph, model, node};

/// A folder that is removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("graver-onnx-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("inside")).expect("a folder can be made");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What importing says of two floats at a place.
fn read(folder: &Path, entries: &[(&str, &str)]) -> Result<Imported, String> {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto { key: (*key).to_owned(), value: (*value).to_owned() };
    let tensor = TensorProto {
        name: "w".to_owned(),
        dims: vec![2],
        data_type: FLOAT,
        data_location: 1,
        external_data: entries.iter().map(entry).collect(),
        ..TensorProto::default()
    };
    let graph = graph(vec![node("Add", &["x", "w"], &["y"], Vec::new())], vec![floats("x", &[2])], vec![tensor], &["y"]);
    let options = Options { folder: Some(folder.to_owned()), ..Options::default() };
    import(&model(graph, 17), &options).map_err(|failure| failure.to_string())
}

#[test]
fn data_lies_beside_the_model_and_nowhere_else() {
    let folder = Folder::new("external");
    let inside = folder.0.join("inside");
    std::fs::write(inside.join("data.bin"), [0; 12]).expect("it can be written");
    std::fs::write(folder.0.join("secret.bin"), [0; 12]).expect("it can be written");
    assert!(read(&inside, &[("location", "data.bin"), ("offset", "4"), ("length", "8")]).is_ok());
    let refused = |entries: &[(&str, &str)], said: &str| {
        let error = read(&inside, entries).expect_err("it is refused");
        assert!(error.contains(said), "{error}");
    };
    refused(&[("location", "../secret.bin")], "lies outside of the model's folder");
    let absolute = folder.0.join("secret.bin");
    refused(&[("location", &absolute.to_string_lossy())], "lies outside of the model's folder");
    refused(&[("location", "data.bin"), ("offset", "8")], "8 bytes at 8 are not what the file has");
    refused(&[("location", "data.bin"), ("length", "999999999999")], "are not what the file has");
    refused(&[("location", "data.bin"), ("offset", "-1")], "offset is `-1`");
    refused(&[("location", "data.bin"), ("offset", "18446744073709551615")], "are not what the file has");
    refused(&[("location", ".")], "external data `.`: is no file");
    refused(&[], "without a location");
    // Who opens a pipe waits for whoever writes to it.
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(inside.join("pipe")).status().expect("the command starts");
        assert!(made.success());
        refused(&[("location", "pipe")], "external data `pipe`: is no file");
        let error = graver_onnx::read_file(&inside.join("pipe")).expect_err("it is refused");
        assert!(error.to_string().contains("it is not a file"), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&absolute, inside.join("link.bin")).expect("a link can be made");
        refused(&[("location", "link.bin")], "lies outside of the model's folder");
    }
}

/// The weights are where the file is mapped: nobody has read them.
#[cfg(target_os = "linux")]
#[test]
fn data_is_not_copied() {
    let folder = Folder::new("mapped");
    let path = folder.0.join("data.bin");
    let data: Vec<u8> = [7.0f32, 1.0, 2.0].into_iter().flat_map(f32::to_le_bytes).collect();
    std::fs::write(&path, data).expect("it can be written");
    let imported = read(&folder.0, &[("location", "data.bin"), ("offset", "4")]).expect("the data is there");
    let (_, entry) = imported.module.entry().expect("a module has an entry");
    let weights = |node| if let Op::Const(array) = entry.graph.op(node) { Some(array) } else { None };
    let array = entry.graph.topo().into_iter().find_map(weights).expect("the weights are a constant");
    assert_eq!(array.to_f64(), [1.0, 2.0]);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the system tells what is mapped");
    let line = maps.lines().find(|line| line.ends_with("data.bin") && line.contains("graver-onnx-mapped")).expect("it is mapped");
    let (first, rest) = line.split_once('-').expect("a range");
    let address = |text: &str| usize::from_str_radix(text, 16).expect("an address");
    let range = address(first)..address(rest.split_once(' ').expect("a range").0);
    assert!(range.contains(&array.bytes().as_ptr().addr()), "{line}");
}
