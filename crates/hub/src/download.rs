//! Models from the Hugging Face Hub, into its usual cache.

use std::path::PathBuf;

use graver_ir::{Diag, Error};
use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use crate::folder::Folder;

/// What a model has at most, besides its configuration and weights.
const OPTIONAL: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
];

/// How often a file is asked for again whose transfer broke off, from where it did.
const RETRIES: usize = 2;

/// The Hugging Face Hub, or a host that serves files as it does, and the folder that they are kept in.
///
/// ```no_run
/// use graver_hub::Hub;
/// let folder = Hub::from_env().revision("v1.0").fetch("sentence-transformers/all-MiniLM-L6-v2")?;
/// assert!(folder.has("config.json"));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
    token: Option<String>,
    revision: String,
    progress: bool,
}

impl Hub {
    /// As the environment says: the host `HF_ENDPOINT`, the cache in `HF_HOME`, and who asks by `HF_TOKEN` or by what a login left in the
    /// cache.
    #[must_use]
    pub fn from_env() -> Self {
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cache = Cache::from_env();
        Self {
            endpoint: said("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: said("HF_TOKEN").or_else(|| cache.token()),
            cache,
            revision: "main".to_owned(),
            progress: false,
        }
    }

    /// Another host.
    #[must_use]
    pub fn endpoint(self, endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), ..self }
    }

    /// Another folder for files.
    #[must_use]
    pub fn cache(self, folder: impl Into<PathBuf>) -> Self {
        Self { cache: Cache::new(folder.into()), ..self }
    }

    /// Another one who asks, or nobody.
    #[must_use]
    pub fn token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// A branch, a tag or a commit instead of `main`.
    #[must_use]
    pub fn revision(self, revision: impl Into<String>) -> Self {
        Self { revision: revision.into(), ..self }
    }

    /// Whether standard error shows how much of a file is there.
    #[must_use]
    pub fn progress(self, progress: bool) -> Self {
        Self { progress, ..self }
    }

    /// The folder of a model, `google-bert/bert-base-uncased`: what the cache has not is fetched. Nothing is asked of the host where the
    /// cache has all.
    ///
    /// # Errors
    /// If there is no such model, it may not be read, there is no network, or no safetensors are in it.
    pub fn fetch(&self, model: &str) -> Result<Folder, Error> {
        check(model, &self.revision)?;
        let api = ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(self.token.clone())
            .with_progress(self.progress)
            .with_retries(RETRIES);
        let fetch = Fetch { model, revision: &self.revision };
        let repo = Repo::with_revision(model.to_owned(), RepoType::Model, self.revision.clone());
        let repo = api.build().map_err(|error| fetch.failed("its files", &error))?.repo(repo);
        let config = fetch.file(&repo, "config.json")?;
        let folder = Folder::open(config.parent().expect("a file of the cache is in a folder"))?;
        fetch.weights(&repo, &folder)?;
        OPTIONAL.into_iter().try_for_each(|name| fetch.optional(&repo, name))?;
        Ok(folder)
    }
}

impl Folder {
    /// [`Hub::fetch`] of the Hub that the environment names.
    ///
    /// # Errors
    /// As there.
    pub fn fetch(model: &str) -> Result<Self, Error> {
        Hub::from_env().fetch(model)
    }
}

/// What is fetched.
struct Fetch<'m> {
    model: &'m str,
    revision: &'m str,
}

impl Fetch<'_> {
    fn file(&self, repo: &ApiRepo, name: &str) -> Result<PathBuf, Error> {
        repo.get(name).map_err(|error| self.failed(&format!("`{name}`"), &error))
    }

    /// What is not there is not needed; what is needed and not there is missed where it is read. Without a network the cache is all there is.
    fn optional(&self, repo: &ApiRepo, name: &str) -> Result<(), Error> {
        match repo.get(name) {
            Err(error) if !matches!(Answer::of(&error), Answer::Missing | Answer::Nobody) => {
                Err(self.failed(&format!("`{name}`"), &error))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn weights(&self, repo: &ApiRepo, folder: &Folder) -> Result<(), Error> {
        const SINGLE: &str = "model.safetensors";
        // A model of which the cache has an index has no single file.
        if !folder.has(crate::weights::INDEX) {
            match repo.get(SINGLE) {
                Ok(_) => return Ok(()),
                Err(error) if Answer::of(&error) != Answer::Missing => return Err(self.failed(&format!("`{SINGLE}`"), &error)),
                Err(_) => {}
            }
        }
        if let Err(error) = repo.get(crate::weights::INDEX) {
            return Err(match Answer::of(&error) {
                Answer::Missing => self.told("has no weights as safetensors, and no other format is read", None),
                Answer::Refused | Answer::Nobody | Answer::Other => self.failed("its weights", &error),
            });
        }
        crate::weights::shards(folder.path())?.iter().try_for_each(|shard| self.file(repo, shard).map(drop))
    }

    fn failed(&self, what: &str, error: &ApiError) -> Error {
        let found = match Answer::of(error) {
            Answer::Missing => format!("{what} is not there, in the revision `{}`", self.revision),
            Answer::Refused => {
                format!("{what} may not be read: the model is private, wants its conditions accepted, or is not there")
            }
            Answer::Nobody => format!("{what} is not in the cache, and there is no connection: {error}"),
            Answer::Other => format!("{what}: {error}"),
        };
        let help = match Answer::of(error) {
            Answer::Missing => Some("models are called `owner/name`; `config.json` and safetensors are what is read"),
            Answer::Refused => Some("a token of one who may read it is given in HF_TOKEN"),
            Answer::Nobody | Answer::Other => None,
        };
        self.told(&found, help)
    }

    fn told(&self, message: &str, help: Option<&str>) -> Error {
        let diag = Diag::new(message).op(format!("fetch {}", self.model));
        help.map_or_else(|| diag.clone(), |help| diag.clone().help(help)).into()
    }
}

/// What a host answers that does not give a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Missing,
    Refused,
    Nobody,
    Other,
}

impl Answer {
    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::TooManyRetries(last) => Self::of(last),
            ApiError::RequestError(error) => match &**error {
                ureq::Error::Status(404, _) => Self::Missing,
                ureq::Error::Status(401 | 403, _) => Self::Refused,
                ureq::Error::Status(..) => Self::Other,
                ureq::Error::Transport(_) => Self::Nobody,
            },
            ApiError::MissingHeader(_)
            | ApiError::InvalidHeader(_)
            | ApiError::ParseIntError(_)
            | ApiError::IoError(_)
            | ApiError::InvalidResume
            | ApiError::LockAcquisition(_) => Self::Other,
        }
    }
}

/// That names are no paths to elsewhere.
fn check(model: &str, revision: &str) -> Result<(), Error> {
    let is_part = |part: &str| {
        let is_known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_known)
    };
    let wrong = |what: String| Err(Diag::new(what).op(format!("fetch {model}")).into());
    if model.split('/').count() > 2 || !model.split('/').all(is_part) {
        return wrong("is no name of a model: they are `owner/name`, of letters, digits, `.`, `_` and `-`".to_owned());
    }
    if !revision.split('/').all(is_part) {
        return wrong(format!("`{revision}` is no name of a revision: a branch, a tag or a commit"));
    }
    Ok(())
}
