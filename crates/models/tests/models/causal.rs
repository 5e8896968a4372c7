//! Language models that see only what came before, and T5.

use graver_models::{CausalBody, CausalLm, Gpt2, Llama, Pretrained, T5};
use graver_trace::{Device, Error, compile, spec};

use crate::common::{CALLS, Case, Reference, check};

fn causal<B: CausalBody>(reference: &Reference, device: &Device) -> Result<f64, Error> {
    let model = CausalLm::<B>::of_folder(&reference.folder)?;
    let tokens = || spec::<i64>(("batch", "length"));
    let compiled = compile(|(ids, mask)| model.forward(ids, mask), (tokens(), tokens()), device)?;
    let mut worst = 0.0f64;
    for call in CALLS {
        let logits = compiled.call((reference.array(call, "ids"), reference.array(call, "mask")))?;
        worst = worst.max(reference.check(call, "logits", &logits));
    }
    Ok(worst)
}

fn t5(reference: &Reference, device: &Device) -> Result<f64, Error> {
    let model = T5::of_folder(&reference.folder)?;
    let specs = (spec::<i64>(("batch", "length")), spec::<i64>(("batch", "length")), spec::<i64>(("batch", "decoded")));
    let compiled = compile(|(ids, mask, decoded)| model.decode(decoded, model.encode(ids, mask), mask), specs, device)?;
    let mut worst = 0.0f64;
    for call in CALLS {
        let given = |name: &str| reference.array(call, name);
        let logits = compiled.call((given("ids"), given("mask"), given("decoded")))?;
        worst = worst.max(reference.check(call, "logits", &logits));
    }
    Ok(worst)
}

/// Of the Llama family: shared heads, frequencies scaled for long texts, windows, biases, tied and own heads.
pub(crate) const CASES: &[Case] = &[
    Case { name: "gpt2", model: "CausalLm<Gpt2>", run: causal::<Gpt2> },
    Case { name: "llama", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "llama3", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "yarn", model: "CausalLm<Llama>", run: causal::<Llama> },
    // One call within the length that the model is for, and one beyond it.
    Case { name: "dynamic", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "longrope", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "mistral", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "qwen2", model: "CausalLm<Llama>", run: causal::<Llama> },
    Case { name: "t5", model: "T5", run: t5 },
    Case { name: "t5_gated", model: "T5", run: t5 },
];

#[test]
fn each_gives_what_transformers_gives() -> Result<(), Error> {
    check(CASES)
}
