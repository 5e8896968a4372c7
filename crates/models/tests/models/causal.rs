//! Language models that see only what came before, and T5.

use graver_models::{CausalBody, CausalLm, Gpt2, Llama, Pretrained, T5};
use graver_trace::{Error, compile, spec};

use crate::common::{CALLS, Reference, cpu};

fn check<B: CausalBody>(case: &str) -> Result<(), Error> {
    let reference = Reference::of(case);
    let model = CausalLm::<B>::of_folder(&reference.folder)?;
    let tokens = || spec::<i64>(("batch", "length"));
    let compiled = compile(|(ids, mask)| model.forward(ids, mask), (tokens(), tokens()), &cpu())?;
    for call in CALLS {
        let logits = compiled.call((reference.array(call, "ids"), reference.array(call, "mask")))?;
        reference.check(call, "logits", &logits);
    }
    Ok(())
}

#[test]
fn gpt2() -> Result<(), Error> {
    check::<Gpt2>("gpt2")
}

/// Shared heads, frequencies scaled for long texts, windows, biases, tied and own heads.
#[test]
fn the_llama_family() -> Result<(), Error> {
    check::<Llama>("llama")?;
    check::<Llama>("llama3")?;
    check::<Llama>("yarn")?;
    // One call within the length that the model is for, and one beyond it.
    check::<Llama>("dynamic")?;
    check::<Llama>("longrope")?;
    check::<Llama>("mistral")?;
    check::<Llama>("qwen2")
}

#[test]
fn t5() -> Result<(), Error> {
    for case in ["t5", "t5_gated"] {
        let reference = Reference::of(case);
        let model = T5::of_folder(&reference.folder)?;
        let specs = (spec::<i64>(("batch", "length")), spec::<i64>(("batch", "length")), spec::<i64>(("batch", "decoded")));
        let compiled = compile(|(ids, mask, decoded)| model.decode(decoded, model.encode(ids, mask), mask), specs, &cpu())?;
        for call in CALLS {
            let given = |name: &str| reference.array(call, name);
            let logits = compiled.call((given("ids"), given("mask"), given("decoded")))?;
            reference.check(call, "logits", &logits);
        }
    }
    Ok(())
}
