//! Models from the Hugging Face Hub, into its usual cache.

use graver_ir::{Diag, Error};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};

use crate::folder::Folder;

/// What a model has at most, besides its shards.
const OPTIONAL: &[&str] = &[
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "generation_config.json",
];

impl Folder {
    /// The folder of a model of the Hub, `google-bert/bert-base-uncased`: what the usual cache (`HF_HOME`) has not is fetched.
    ///
    /// # Errors
    /// If there is no such model, no network, or no safetensors in it.
    pub fn fetch(model: &str) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::from(Diag::new(error.to_string()).op(format!("fetch {model}")));
        let repo = ApiBuilder::from_env().build().map_err(|error| failed(&error))?.model(model.to_owned());
        let config = repo.get("config.json").map_err(|error| failed(&error))?;
        let folder = Self::open(config.parent().ok_or_else(|| failed(&"the cache has no folders"))?)?;
        for name in OPTIONAL {
            // What is not there is not needed; what is needed and not there is missed where it is read.
            drop(repo.get(name));
        }
        fetch_weights(&repo, &folder).map_err(|error| failed(&error))?;
        Ok(folder)
    }
}

fn fetch_weights(repo: &ApiRepo, folder: &Folder) -> Result<(), Error> {
    let wrong = |error: hf_hub::api::sync::ApiError| Error::new(error.to_string());
    if repo.get("model.safetensors").is_ok() {
        return Ok(());
    }
    repo.get("model.safetensors.index.json").map_err(wrong)?;
    for shard in crate::weights::shards(folder.path())? {
        repo.get(&shard).map_err(wrong)?;
    }
    Ok(())
}
