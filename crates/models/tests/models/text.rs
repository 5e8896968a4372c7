//! Encoders of text and their heads.

use graver_models::{MaskedLm, Pretrained, QuestionAnswering, SequenceClassifier, TextEncoder, TextInput, TokenClassifier};
use graver_trace::{Array, Error, Tensor, Tree, compile, spec};

use crate::common::{CALLS, Reference, cpu};

/// Compares each of a model's results with the reference's, over ids, a mask and perhaps types.
fn check<M: Pretrained, Y: Tree<Arrays = Vec<Array>>>(
    case: &str,
    names: &[&str],
    types: bool,
    forward: impl Fn(&M, TextInput) -> Y,
) -> Result<(), Error> {
    let reference = Reference::of(case);
    let model = M::of_folder(&reference.folder)?;
    let tokens = || spec::<i64>(("batch", "length"));
    let specs = (tokens(), tokens(), types.then(tokens));
    let compiled = compile(|(ids, mask, types)| forward(&model, TextInput { ids, mask, types }), specs, &cpu())?;
    for call in CALLS {
        let given = |name: &str| reference.array(call, name);
        let results = compiled.call((given("ids"), given("mask"), types.then(|| given("types"))))?;
        assert_eq!(results.len(), names.len());
        for (name, result) in names.iter().zip(&results) {
            reference.check(call, name, result);
        }
    }
    Ok(())
}

fn body(model: &TextEncoder, input: TextInput) -> Vec<Tensor> {
    let hidden = model.forward(input);
    std::iter::once(hidden).chain(model.pooled(hidden)).collect()
}

const BODY: &[&str] = &["last_hidden_state", "pooler_output"];

#[test]
fn bodies() -> Result<(), Error> {
    check("bert", BODY, true, body)?;
    check("roberta", BODY, false, body)?;
    check("distilbert", &BODY[..1], false, body)
}

#[test]
fn language_models() -> Result<(), Error> {
    let forward = |model: &MaskedLm, input| vec![model.forward(input)];
    check("bert_mlm", &["logits"], true, forward)?;
    // A last layer of its own, weight and bias.
    check("bert_untied", &["logits"], true, forward)?;
    check("roberta_mlm", &["logits"], false, forward)?;
    check("distilbert_mlm", &["logits"], false, forward)
}

#[test]
fn classifiers_of_texts() -> Result<(), Error> {
    let forward = |model: &SequenceClassifier, input| vec![model.forward(input)];
    // In six shards.
    check("bert_class", &["logits"], true, forward)?;
    check("roberta_class", &["logits"], false, forward)?;
    check("distilbert_class", &["logits"], false, forward)
}

#[test]
fn classifiers_of_tokens() -> Result<(), Error> {
    check("bert_token", &["logits"], true, |model: &TokenClassifier, input| vec![model.forward(input)])
}

#[test]
fn answers_to_questions() -> Result<(), Error> {
    let forward = |model: &QuestionAnswering, input| {
        let (start, end) = model.forward(input);
        vec![start, end]
    };
    check("bert_qa", &["start_logits", "end_logits"], true, forward)?;
    check("distilbert_qa", &["start_logits", "end_logits"], false, forward)
}
