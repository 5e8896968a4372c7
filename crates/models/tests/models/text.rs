//! Encoders of text and their heads.

use graver_models::{MaskedLm, Pretrained, QuestionAnswering, SequenceClassifier, TextEncoder, TextInput, TokenClassifier};
use graver_trace::{Array, Device, Error, Tree, compile, spec};

use crate::common::{CALLS, Case, Reference, check};

/// What is run of a reference, over ids, a mask and types of tokens where it has some: how far its results are from the reference's.
fn run<M: Pretrained, Y: Tree<Arrays = Vec<Array>>>(
    (reference, device): (&Reference, &Device),
    names: &[&str],
    forward: impl Fn(&M, TextInput) -> Y,
) -> Result<f64, Error> {
    let model = M::of_folder(&reference.folder)?;
    let types = reference.has(CALLS[0], "types");
    let tokens = || spec::<i64>(("batch", "length"));
    let specs = (tokens(), tokens(), types.then(tokens));
    let compiled = compile(|(ids, mask, types)| forward(&model, TextInput { ids, mask, types }), specs, device)?;
    let mut worst = 0.0f64;
    for call in CALLS {
        let given = |name: &str| reference.array(call, name);
        let results = compiled.call((given("ids"), given("mask"), types.then(|| given("types"))))?;
        assert_eq!(results.len(), names.len());
        for (name, result) in names.iter().zip(&results) {
            worst = worst.max(reference.check(call, name, result));
        }
    }
    Ok(worst)
}

fn body(reference: &Reference, device: &Device) -> Result<f64, Error> {
    // DistilBERT has no pooler.
    let names = if reference.has(CALLS[0], "pooler_output") {
        &["last_hidden_state", "pooler_output"][..]
    } else {
        &["last_hidden_state"]
    };
    run((reference, device), names, |model: &TextEncoder, input| {
        let hidden = model.forward(input);
        std::iter::once(hidden).chain(model.pooled(hidden)).collect::<Vec<_>>()
    })
}

fn masked(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &MaskedLm, input| vec![model.forward(input)])
}

fn sequences(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &SequenceClassifier, input| vec![model.forward(input)])
}

fn tokens(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["logits"], |model: &TokenClassifier, input| vec![model.forward(input)])
}

fn answers(reference: &Reference, device: &Device) -> Result<f64, Error> {
    run((reference, device), &["start_logits", "end_logits"], |model: &QuestionAnswering, input| {
        let (start, end) = model.forward(input);
        vec![start, end]
    })
}

pub(crate) const CASES: &[Case] = &[
    Case { name: "bert", model: "TextEncoder", run: body },
    Case { name: "roberta", model: "TextEncoder", run: body },
    Case { name: "distilbert", model: "TextEncoder", run: body },
    Case { name: "bert_mlm", model: "MaskedLm", run: masked },
    // A last layer of its own, weight and bias.
    Case { name: "bert_untied", model: "MaskedLm", run: masked },
    Case { name: "roberta_mlm", model: "MaskedLm", run: masked },
    Case { name: "distilbert_mlm", model: "MaskedLm", run: masked },
    // In six shards.
    Case { name: "bert_class", model: "SequenceClassifier", run: sequences },
    Case { name: "roberta_class", model: "SequenceClassifier", run: sequences },
    Case { name: "distilbert_class", model: "SequenceClassifier", run: sequences },
    Case { name: "bert_token", model: "TokenClassifier", run: tokens },
    Case { name: "roberta_token", model: "TokenClassifier", run: tokens },
    Case { name: "distilbert_token", model: "TokenClassifier", run: tokens },
    Case { name: "bert_qa", model: "QuestionAnswering", run: answers },
    Case { name: "roberta_qa", model: "QuestionAnswering", run: answers },
    Case { name: "distilbert_qa", model: "QuestionAnswering", run: answers },
];

#[test]
fn each_gives_what_transformers_gives() -> Result<(), Error> {
    check(CASES)
}
