//! A model's folder.

use std::path::{Path, PathBuf};

use graver_ir::{Diag, Error};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::chat::ChatTemplate;
use crate::json;
use crate::tokens::Tokenizer;
use crate::weights::Weights;

/// The folder of a pretrained model: `config.json`, `model.safetensors` or its shards, `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A folder on this machine.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        if path.is_dir() {
            Ok(Self { path })
        } else {
            let help = "a model is a folder with config.json and model.safetensors";
            Err(Diag::new("there is no such folder").help(help).op(path.display().to_string()).into())
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has a file of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).is_file()
    }

    /// The fields of `config.json`.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn config(&self) -> Result<Map<String, Value>, Error> {
        self.require("config.json", "a model's folder is one that transformers' `save_pretrained` wrote")?;
        self.fields("config.json")
    }

    /// That it has a file, or else what to do.
    fn require(&self, name: &str, help: &str) -> Result<(), Error> {
        let diag = || Diag::new(format!("has no {name}")).help(help).op(self.path.display().to_string());
        if self.has(name) { Ok(()) } else { Err(diag().into()) }
    }

    /// The fields of a configuration under another name.
    ///
    /// # Errors
    /// As [`Folder::config`].
    pub fn fields(&self, name: &str) -> Result<Map<String, Value>, Error> {
        let path = self.path.join(name);
        serde_json::from_value(json::value(&path)?).map_err(|error| json::wrong(&path, &error))
    }

    /// A configuration under another name as a type, whose integers are sizes of at most 2^31.
    ///
    /// # Errors
    /// As [`Folder::config`], and if a field is missing or of another type: the file and why.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        json::config(&self.path.join(name))
    }

    /// `tokenizer.json`.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let help = "transformers writes it from other files: `AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`";
        self.require("tokenizer.json", help)?;
        let path = self.path.join("tokenizer.json");
        Tokenizer::from_bytes(&json::bytes(&path)?).map_err(|error| json::wrong(&path, &error))
    }

    /// How the model's conversations are written: `chat_template.jinja`, or what `tokenizer_config.json` says.
    ///
    /// # Errors
    /// If there is no such template, or it cannot be read or is malformed.
    pub fn chat_template(&self) -> Result<ChatTemplate, Error> {
        ChatTemplate::of_folder(self)
    }

    /// The weights, mapped into memory.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn weights(&self) -> Result<Weights, Error> {
        Weights::open(&self.path)
    }
}
