//! External data: read from the model's folder, and from nowhere else.

use std::path::{Path, PathBuf};

use graver_onnx::proto::{StringStringEntryProto, TensorProto};
use graver_onnx::{Options, import};

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
fn read(folder: &Path, entries: &[(&str, &str)]) -> Result<(), String> {
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
    import(&model(graph, 17), &options).map(drop).map_err(|failure| failure.to_string())
}

#[test]
fn data_lies_beside_the_model_and_nowhere_else() {
    let folder = Folder::new("external");
    let inside = folder.0.join("inside");
    std::fs::write(inside.join("data.bin"), [0; 12]).expect("it can be written");
    std::fs::write(folder.0.join("secret.bin"), [0; 12]).expect("it can be written");
    assert_eq!(read(&inside, &[("location", "data.bin"), ("offset", "4"), ("length", "8")]), Ok(()));
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
    refused(&[("location", ".")], "are not what the file has");
    refused(&[], "without a location");
    // Who opens a pipe waits for whoever writes to it.
    #[cfg(unix)]
    {
        let made = std::process::Command::new("mkfifo").arg(inside.join("pipe")).status().expect("the command starts");
        assert!(made.success());
        refused(&[("location", "pipe")], "8 bytes at 0 are not what the file has");
        let error = graver_onnx::read_file(&inside.join("pipe")).expect_err("it is refused");
        assert!(error.to_string().contains("it is not a file"), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&absolute, inside.join("link.bin")).expect("a link can be made");
        refused(&[("location", "link.bin")], "lies outside of the model's folder");
    }
}
