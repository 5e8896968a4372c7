//! Compiled kernels on disk: files named by what they were made of, that end with a checksum. What is not as it was written is not there. The
//! files that were used last stay, as many as there is room for.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use graver_ir::Error;

use crate::emit::{hash, hash_bytes};

/// Bytes that it takes at most, in MiB.
const VARIABLE: &str = "GRAVER_CUBIN_MIB";
/// Where the variable is not set.
const USUAL: u64 = 1024;
/// Behind the machine code, before the checksum.
const MARK: &[u8; 8] = b"graver 1";

/// A folder, and how many bytes may be in it.
#[derive(Debug)]
pub(super) struct Cache {
    /// `None` where nothing is kept.
    folder: Option<PathBuf>,
    most: u64,
}

/// What some machine code is made of, by which it is found.
pub(super) struct Key {
    text: String,
}

impl Key {
    pub(super) fn new(text: String) -> Self {
        Self { text }
    }

    fn file(&self) -> String {
        format!("{:016x}_{}.cubin", hash(&self.text), self.text.len())
    }

    /// Of the machine code and of what it is made of: what lies under another's name is nothing, either.
    fn checksum(&self, code: &[u8]) -> [u8; 8] {
        let parts = [hash_bytes(code), hash(&self.text), code.len() as u64].map(u64::to_le_bytes);
        hash_bytes(&parts.concat()).to_le_bytes()
    }
}

impl Cache {
    /// This user's, with the bound that the environment says.
    ///
    /// # Errors
    /// It says what is no bound.
    pub(super) fn new() -> Result<Self, Error> {
        let given = std::env::var_os(VARIABLE);
        let most = match given.as_ref().map(|given| given.to_str().and_then(|given| given.parse::<u64>().ok())) {
            None => USUAL,
            Some(Some(most)) => most,
            Some(None) => {
                let given = given.unwrap_or_default();
                return Err(Error::new(format!(
                    "{VARIABLE} is {given:?}; it says how many MiB of compiled kernels are kept, {USUAL} where it is not set, and none where \
                     it is 0"
                )));
            }
        };
        let folder = crate::nvrtc::cache().filter(|_| most > 0).map(|cache| cache.join("cubin"));
        Ok(Self { folder, most: most.saturating_mul(1 << 20) })
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key.file()))
    }

    /// The machine code that was kept, whole, which is used again now.
    pub(super) fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let mut code = fs::read(&path).ok()?;
        let checksum = code.split_off(code.len().checked_sub(8)?);
        let mark = code.split_off(code.len().checked_sub(MARK.len())?);
        if mark != MARK || checksum != key.checksum(&code) {
            return None;
        }
        // Where that cannot be noted, as in a folder that is only read, it may go earlier.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(code)
    }

    /// Keeps machine code. A cache that cannot be written costs time, not results.
    pub(super) fn put(&self, key: &Key, code: &[u8]) {
        let Some(path) = self.path(key) else { return };
        let bytes = [code, MARK, &key.checksum(code)].concat();
        let _ = fs::create_dir_all(path.parent().unwrap_or(&path)).and_then(|()| crate::write_whole(&path, &bytes));
    }

    /// Lets go of what was not used for longest, until the rest has room. What cannot be removed takes room still.
    pub(super) fn trim(&self) {
        let Some(folder) = &self.folder else { return };
        let mut files = files(folder);
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, size, path) in files {
            if bytes <= self.most {
                return;
            }
            match fs::remove_file(path) {
                // Another process may have let go of it.
                Err(error) if error.kind() != ErrorKind::NotFound => {}
                _ => bytes -= size,
            }
        }
    }
}

/// When each was last used, its bytes, and where it is. What a process left that was ended while it wrote is one of them.
fn files(folder: &Path) -> Vec<(SystemTime, u64, PathBuf)> {
    let of = |entry: fs::DirEntry| {
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((about.modified().ok()?, about.len(), entry.path()))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::{Cache, File, Key, files};

    fn key(text: &str) -> Key {
        Key::new(text.to_owned())
    }

    /// An empty one of a test's own.
    fn cache(name: &str, most: u64) -> (Cache, PathBuf) {
        let folder = std::env::temp_dir().join(format!("graver_cubins_{name}_{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        (Cache { folder: Some(folder.clone()), most }, folder)
    }

    #[test]
    fn what_is_not_as_it_was_written_is_not_there() {
        let (cache, folder) = cache("checked", 1 << 20);
        let code: Vec<u8> = (0..=255).cycle().take(1000).collect();
        assert_eq!(cache.get(&key("a")), None);
        cache.put(&key("a"), &code);
        assert_eq!(cache.get(&key("a")), Some(code.clone()));
        assert_eq!(cache.get(&key("b")), None);
        let path = folder.join(key("a").file());
        let kept = fs::read(&path).expect("it was written");
        // Every byte counts, and none may be missing or more.
        for at in 0..kept.len() {
            let mut broken = kept.clone();
            broken[at] ^= 1 << (at % 8);
            fs::write(&path, broken).expect("it can be written");
            assert_eq!(cache.get(&key("a")), None, "byte {at}");
        }
        for broken in [&kept[..0], &kept[..7], &kept[..kept.len() - 1], &kept[1..], &[kept.clone(), vec![0]].concat(), &code] {
            fs::write(&path, broken).expect("it can be written");
            assert_eq!(cache.get(&key("a")), None, "{} bytes", broken.len());
        }
        // Under another's name.
        fs::write(folder.join(key("b").file()), &kept).expect("it can be written");
        assert_eq!(cache.get(&key("b")), None);
        cache.put(&key("a"), &code);
        assert_eq!(cache.get(&key("a")), Some(code));
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let (cache, folder) = cache("bounded", 3500);
        let code = vec![7; 1000];
        let kept = || ["a", "b", "c", "d"].map(|name| folder.join(key(name).file()).exists());
        for (name, seconds) in [("a", 40), ("b", 30), ("c", 20)] {
            cache.put(&key(name), &code);
            let long_ago = SystemTime::now() - Duration::from_secs(seconds);
            let file = File::options().append(true).open(folder.join(key(name).file())).expect("it was written");
            file.set_modified(long_ago).expect("it is our own");
        }
        cache.trim();
        assert_eq!(kept(), [true, true, true, false]);
        assert!(cache.get(&key("a")).is_some());
        cache.put(&key("d"), &code);
        // What was left unfinished is old one day.
        let unfinished = folder.join("unfinished");
        fs::write(&unfinished, &code[..100]).expect("it can be written");
        let file = File::options().append(true).open(&unfinished).expect("it was written");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("it is our own");
        cache.trim();
        assert_eq!(kept(), [true, false, true, true]);
        assert!(!unfinished.exists());
        assert!(files(&folder).iter().map(|(_, bytes, _)| bytes).sum::<u64>() <= cache.most);
        // What does not fit at all does not stay.
        cache.put(&key("d"), &vec![7; 4000]);
        cache.trim();
        assert_eq!(kept(), [false; 4]);
        fs::remove_dir_all(folder).expect("it was made above");
    }

    #[test]
    fn a_cache_without_a_folder_keeps_nothing() {
        let cache = Cache { folder: None, most: 0 };
        cache.put(&key("a"), &[1]);
        cache.trim();
        assert_eq!(cache.get(&key("a")), None);
        let nowhere = Cache { folder: Some(PathBuf::from("/dev/null/nowhere")), most: 1 };
        nowhere.put(&key("a"), &[1]);
        nowhere.trim();
        assert_eq!(nowhere.get(&key("a")), None);
    }
}
