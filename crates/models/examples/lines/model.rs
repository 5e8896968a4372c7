//! A small BERT that tells languages apart, and the step that trains it.

use graver::prelude::*;
use graver::trace::TensorSpec;
use graver_models::{Configuration, Pretrained, SequenceClassifier, TextConfig, TextInput};

/// Tokens of a line at most.
pub(crate) const LENGTH: usize = 32;

/// Tokens, their mask, and languages.
type Inputs = (TensorSpec, TensorSpec, TensorSpec);

/// With values, for so many tokens and the languages of these names.
pub(crate) fn new(vocabulary: usize, languages: &[&str], init: &mut Init) -> Result<SequenceClassifier, Error> {
    SequenceClassifier::new(&TextConfig::of_json(&config(vocabulary, languages))?, init)
}

/// The configuration, as a file would have it.
fn config(vocabulary: usize, languages: &[&str]) -> String {
    let labels: Vec<String> = languages.iter().enumerate().map(|(place, name)| format!(r#""{place}": "{name}""#)).collect();
    format!(
        r#"{{
            "model_type": "bert", "vocab_size": {vocabulary}, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": {LENGTH}, "id2label": {{ {} }}
        }}"#,
        labels.join(", ")
    )
}

/// A step that gives the loss.
pub(crate) fn training(model: &SequenceClassifier, device: &Device) -> Result<Step<Inputs, Tensor>, Error> {
    let tokens = || spec::<i64>(("batch", "length"));
    let inputs = (tokens(), tokens(), spec::<i64>(["batch"]));
    let optimizer = AdamW::new(1e-3).weight_decay("*.weight", 0.01);
    let step = train_step(model, optimizer, inputs, |model, (ids, mask, language)| {
        model.forward(TextInput { ids, mask, types: None }).cross_entropy(language)
    });
    step.compile(device)
}
