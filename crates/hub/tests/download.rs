//! Fetching from a host that serves files as the Hugging Face Hub does: `/{model}/resolve/{revision}/{file}`, with the commit, the file's name
//! in the cache and its size in headers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use graver_hub::{Folder, Hub};

/// A file of a host.
#[derive(Clone, Default)]
struct Served {
    commit: String,
    body: Vec<u8>,
    /// Who may read it.
    token: Option<&'static str>,
    /// After how many bytes the first transfers break off, one after another.
    breaks: Vec<usize>,
}

/// A host on this machine, until the test ends.
struct Host {
    address: String,
    files: Arc<Mutex<BTreeMap<String, Served>>>,
    /// What was asked for: path, first byte.
    asked: Arc<Mutex<Vec<(String, usize)>>>,
    cache: PathBuf,
}

impl Host {
    fn start(test: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let host = Self {
            address,
            files: Arc::default(),
            asked: Arc::default(),
            cache: std::env::temp_dir().join(format!("graver-hub-{}-{test}", std::process::id())),
        };
        let (files, asked) = (Arc::clone(&host.files), Arc::clone(&host.asked));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away in between is one of the cases.
                drop(answer(stream, &files, &asked));
            }
        });
        host
    }

    fn hub(&self) -> Hub {
        Hub::from_env().endpoint(&self.address).cache(&self.cache).token(None)
    }

    fn serve(&self, revision: &str, name: &str, body: impl Into<Vec<u8>>) {
        self.serve_as(revision, name, Served { body: body.into(), commit: format!("commit-of-{revision}"), ..Served::default() });
    }

    fn serve_as(&self, revision: &str, name: &str, served: Served) {
        let path = format!("/owner/model/resolve/{revision}/{name}");
        self.files.lock().expect("no thread panicked").insert(path, served);
    }

    /// What was asked for since the last time, by the names of files.
    fn asked(&self) -> Vec<(String, usize)> {
        let asked = std::mem::take(&mut *self.asked.lock().expect("no thread panicked"));
        asked.into_iter().map(|(path, start)| (path.rsplit('/').next().unwrap_or_default().to_owned(), start)).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.cache));
    }
}

fn answer(
    mut stream: TcpStream,
    files: &Mutex<BTreeMap<String, Served>>,
    asked: &Mutex<Vec<(String, usize)>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut token) = (String::new(), None);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "range" => range = value.trim_start_matches("bytes=").to_owned(),
            "authorization" => token = Some(value.trim_start_matches("Bearer ").to_owned()),
            _ => {}
        }
    }
    let (start, end) = range.split_once('-').unwrap_or_default();
    let start: usize = start.parse().unwrap_or(0);
    let is_look = end == "0";
    if !is_look {
        asked.lock().expect("no thread panicked").push((path.clone(), start));
    }
    let found = files.lock().expect("no thread panicked").get(&path).cloned();
    let refuse = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let Some(served) = found else { return stream.write_all(refuse("404 Not Found").as_bytes()) };
    if served.token.is_some_and(|wanted| token.as_deref() != Some(wanted)) {
        return stream.write_all(refuse("401 Unauthorized").as_bytes());
    }
    let size = served.body.len();
    let last = if is_look { 1 } else { size };
    let body = &served.body[start.min(size)..last.min(size)];
    let name = path.rsplit('/').next().unwrap_or_default();
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{last}/{size}\r\nconnection: close\r\n\
         x-repo-commit: {}\r\netag: \"blob-of-{name}-{}\"\r\n\r\n",
        body.len(),
        served.commit,
        served.commit,
    );
    stream.write_all(head.as_bytes())?;
    let breaks = (!is_look).then(|| {
        let mut files = files.lock().expect("no thread panicked");
        let served = files.get_mut(&path).expect("just found");
        (!served.breaks.is_empty()).then(|| served.breaks.remove(0))
    });
    stream.write_all(&body[..breaks.flatten().unwrap_or(body.len()).min(body.len())])
}

/// A safetensors file of one number.
fn weights(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1.5f32.to_le_bytes()].concat()
}

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("plain"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_model_is_fetched_once() {
    let host = Host::start("once");
    host.serve("main", "config.json", r#"{"model_type": "bert"}"#);
    host.serve("main", "model.safetensors", weights("weight"));
    host.serve("main", "tokenizer_config.json", "{}");
    let folder = host.hub().fetch("owner/model").expect("all is there");
    assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer_config.json"]);
    assert!(folder.path().starts_with(host.cache.join("models--owner--model/snapshots/commit-of-main")), "{folder:?}");
    assert_eq!(folder.weights().expect("well formed").names().collect::<Vec<_>>(), ["weight"]);
    let asked: Vec<String> = host.asked().into_iter().map(|(name, _)| name).collect();
    assert_eq!(asked, ["config.json", "model.safetensors", "tokenizer_config.json"]);
    assert_eq!(host.hub().fetch("owner/model").expect("it is in the cache"), folder);
    assert_eq!(host.asked(), []);
    // Without a network the cache is all there is.
    let nowhere = host.hub().endpoint("http://127.0.0.1:1");
    assert_eq!(nowhere.fetch("owner/model").expect("it is in the cache"), folder);
    let error = nowhere.fetch("owner/other").expect_err("not in the cache").to_string();
    assert!(error.contains("fetch owner/other: `config.json` is not in the cache, and there is no connection: "), "{error}");
}

#[test]
fn shards_are_those_of_the_index() {
    let host = Host::start("shards");
    host.serve("main", "config.json", "{}");
    let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
    host.serve("main", "model.safetensors.index.json", index);
    host.serve("main", "one.safetensors", weights("a"));
    let error = host.hub().fetch("owner/model").expect_err("one is missing").to_string();
    assert!(error.contains("`two.safetensors` is not there, in the revision `main`"), "{error}");
    host.serve("main", "two.safetensors", weights("b"));
    host.asked();
    let folder = host.hub().fetch("owner/model").expect("all is there");
    assert_eq!(folder.weights().expect("well formed").names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(host.asked(), [("two.safetensors".to_owned(), 0)]);
    // Files elsewhere are not asked for.
    let foreign = Host::start("foreign");
    foreign.serve("main", "config.json", "{}");
    foreign.serve("main", "model.safetensors.index.json", r#"{"weight_map": {"a": "../../one.safetensors"}}"#);
    let error = foreign.hub().fetch("owner/model").expect_err("outside").to_string();
    assert!(error.contains("names a file that is not in its folder"), "{error}");
}

#[test]
fn revisions_are_apart() {
    let host = Host::start("revisions");
    for revision in ["main", "v1.0"] {
        host.serve(revision, "config.json", format!(r#"{{"revision": "{revision}"}}"#));
        host.serve(revision, "model.safetensors", weights(revision));
    }
    let of = |hub: Hub| {
        let folder = hub.fetch("owner/model").expect("all is there");
        let names: Vec<String> = folder.weights().expect("well formed").names().map(str::to_owned).collect();
        (names.concat(), folder.path().file_name().expect("a commit").to_string_lossy().into_owned())
    };
    assert_eq!(of(host.hub()), ("main".to_owned(), "commit-of-main".to_owned()));
    assert_eq!(of(host.hub().revision("v1.0")), ("v1.0".to_owned(), "commit-of-v1.0".to_owned()));
    let error = host.hub().revision("v2").fetch("owner/model").expect_err("no such revision").to_string();
    assert!(error.contains("`config.json` is not there, in the revision `v2`"), "{error}");
}

#[test]
fn who_may_not_read_is_told_so() {
    let host = Host::start("gated");
    let gated = |body: Vec<u8>| Served { body, commit: "commit-of-main".to_owned(), token: Some("secret"), ..Served::default() };
    host.serve("main", "config.json", "{}");
    host.serve_as("main", "model.safetensors", gated(weights("weight")));
    let error = host.hub().fetch("owner/model").expect_err("gated").to_string();
    assert!(
        error.contains("`model.safetensors` may not be read: the model is private, wants its conditions accepted"),
        "{error}"
    );
    assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    let error = host.hub().token(Some("other".to_owned())).fetch("owner/model").expect_err("another's").to_string();
    assert!(error.contains("may not be read"), "{error}");
    host.hub().token(Some("secret".to_owned())).fetch("owner/model").expect("one who may");
}

/// A transfer goes on from where it broke off, in one call and in the next.
#[test]
fn what_breaks_off_goes_on() {
    let host = Host::start("breaks");
    let body = weights("weight");
    host.serve("main", "config.json", "{}");
    let broken = |breaks: &[usize]| Served {
        body: body.clone(),
        commit: "commit-of-main".to_owned(),
        breaks: breaks.to_vec(),
        ..Served::default()
    };
    host.serve_as("main", "model.safetensors", broken(&[5, 3, 1, 2]));
    let error = host.hub().fetch("owner/model").expect_err("it broke off again and again").to_string();
    assert!(error.contains("fetch owner/model: `model.safetensors`"), "{error}");
    let folder = host.hub().fetch("owner/model").expect("the next time is well");
    let starts: Vec<usize> =
        host.asked().into_iter().filter(|(name, _)| name == "model.safetensors").map(|(_, start)| start).collect();
    assert_eq!(starts, [0, 5, 8, 9, 11]);
    assert_eq!(std::fs::read(folder.path().join("model.safetensors")).expect("fetched"), body);
}

#[test]
fn what_is_no_model_is_told() {
    let host = Host::start("nothing");
    let error = host.hub().fetch("owner/model").expect_err("nothing").to_string();
    assert!(error.contains("fetch owner/model: `config.json` is not there") && error.contains("owner/name"), "{error}");
    host.serve("main", "config.json", "{}");
    let error = host.hub().fetch("owner/model").expect_err("no weights").to_string();
    assert!(error.contains("has no weights as safetensors, and no other format is read"), "{error}");
    for name in ["", "a/b/c", "../secret", "owner/..", "a b", "owner/na?me", "/model"] {
        let error = host.hub().fetch(name).expect_err("no name").to_string();
        assert!(error.contains("is no name of a model"), "{error}");
    }
    let error = host.hub().revision("../v1").fetch("owner/model").expect_err("no revision").to_string();
    assert!(error.contains("`../v1` is no name of a revision"), "{error}");
    host.asked();
}
