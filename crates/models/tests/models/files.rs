//! Folders that are wrong, each in its way: everything is told at once, and nothing panics.
use graver_models::hub::{Folder, Names};
use graver_models::{
    CausalLm, Configuration, ConvNextClassifier, ConvNextConfig, Embedder, Gpt2, Llama, MaskedLm, Pretrained, ResNetClassifier,
    SentenceEncoder, SequenceClassifier, T5, TextEncoder, VitClassifier,
};
use graver_nn::{Init, Linear};
use graver_runtime::Checkpoint;
use graver_trace::{Array, DType, Error, Module};
use serde_json::{Value, json};

use crate::common::{Copy, cpu, path};

fn zeros(shape: [usize; 2]) -> Array {
    Array::zeroed(DType::F32, shape).expect("small")
}

/// Loads a folder as every family; none may panic. What the classifier of texts or its tokeniser says.
fn load_all(folder: &Folder) -> String {
    let others = [
        SentenceEncoder::of_folder(folder).map(drop),
        MaskedLm::of_folder(folder).map(drop),
        CausalLm::<Gpt2>::of_folder(folder).map(drop),
        CausalLm::<Llama>::of_folder(folder).map(drop),
        T5::of_folder(folder).map(drop),
        VitClassifier::of_folder(folder).map(drop),
        ResNetClassifier::of_folder(folder).map(drop),
        ConvNextClassifier::of_folder(folder).map(drop),
    ];
    drop(others);
    let tokenizer = || folder.tokenizer()?.max_length(20)?.encode(&["Ink fills them", ""]);
    let text = SequenceClassifier::of_folder(folder).and_then(|_| tokenizer());
    text.err().map_or_else(|| "no error".to_owned(), |error| error.to_string())
}

#[test]
fn every_weight_that_does_not_fit_is_told_at_once() {
    let copy = Copy::of("bert_mlm", "fit");
    copy.reweigh(|weights| {
        weights.remove("bert.encoder.layer.1.output.dense.bias");
        weights.insert("bert.encoder.layer.7.output.dense.bias".to_owned(), zeros([1, 1]));
        weights.insert("cls.predictions.bias".to_owned(), zeros([4, 10]));
        let ids = Array::from_vec([16], vec![1i64; 16]).expect("sizes agree");
        weights.insert("bert.embeddings.LayerNorm.bias".to_owned(), ids);
    });
    let error = MaskedLm::of_folder(&copy.folder()).expect_err("four things are wrong").to_string();
    for said in [
        "`bert.encoder.layer.1.output.dense.bias` is missing",
        "`bert.encoder.layer.7.output.dense.bias` is unexpected",
        "`bert.embeddings.LayerNorm.bias` is f32[16] in the model and i64[16] in the file",
        "`cls.predictions.bias` is f32[40] in the model and f32[4, 10] in the file",
    ] {
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(error.lines().count(), 4, "{error}");
}

#[test]
fn a_model_that_cannot_be_loaded_stays_as_it_was() {
    let layer = Linear::new(2, 2).init(&mut Init::seed(1));
    let before = layer.weight.value();
    let weights = Copy::of("bert", "before").folder().weights().expect("whole");
    assert!(weights.load_into(&layer, &Names::default()).is_err());
    assert_eq!(layer.weight.value(), before);
}

#[test]
fn bodies_and_heads_read_each_other_s_files() -> Result<(), Error> {
    let body = TextEncoder::of_folder(&Copy::of("bert_token", "head").folder())?;
    assert!(body.params().iter().all(|(path, _)| !path.starts_with("pooler")), "the file has no pooler");
    let error = SequenceClassifier::of_folder(&Copy::of("bert", "body").folder()).expect_err("a body has no classes").to_string();
    assert!(error.contains("`classifier.weight` is missing") && error.lines().count() == 2, "{error}");
    Ok(())
}

#[test]
fn old_names_and_caches_of_constants_are_known() -> Result<(), Error> {
    let copy = Copy::of("bert_mlm", "old");
    let expected = MaskedLm::of_folder(&copy.folder())?.params();
    copy.reweigh(|weights| {
        for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
            let name = |end: &str| format!("bert.encoder.layer.0.output.LayerNorm.{end}");
            let norm = weights.remove(&name(new)).expect("a norm");
            weights.insert(name(old), norm);
        }
        let table = weights["bert.embeddings.word_embeddings.weight"].clone();
        weights.insert("cls.predictions.decoder.weight".to_owned(), table);
        weights.insert("bert.embeddings.position_ids".to_owned(), zeros([1, 12]));
    });
    let found = MaskedLm::of_folder(&copy.folder())?.params();
    assert!(found.iter().zip(&expected).all(|(x, y)| x.0 == y.0 && x.1.value() == y.1.value()));
    Ok(())
}

#[test]
fn sixteen_bit_weights_become_the_model_s_floats() -> Result<(), Error> {
    for dtype in [DType::BF16, DType::F16, DType::F64] {
        let copy = Copy::of("bert", &format!("{dtype}"));
        copy.reweigh(|weights| weights.values_mut().for_each(|array| *array = array.cast(dtype)));
        let expected = Checkpoint::read(copy.file("model.safetensors"))?;
        for (path, param) in TextEncoder::of_folder(&copy.folder())?.params() {
            assert_eq!(param.value(), expected.arrays[&path].cast(DType::F32), "{path}");
        }
    }
    Ok(())
}

#[test]
fn shards_must_be_what_the_index_says() {
    const INDEX: &str = "model.safetensors.index.json";
    let said = |change: &dyn Fn(&Copy)| {
        let copy = Copy::of("bert_class", "shards");
        change(&copy);
        load_all(&copy.folder())
    };
    let missing = said(&|copy| std::fs::remove_file(copy.file("model-00002-of-00006.safetensors")).expect("copied"));
    assert!(missing.contains("model-00002-of-00006.safetensors: is missing"), "{missing}");
    let foreign = said(&|copy| copy.edit(INDEX, |index| index["weight_map"]["classifier.bias"] = json!("../../etc/passwd")));
    assert!(foreign.contains("names a file that is not in its folder"), "{foreign}");
    let lost = said(&|copy| {
        copy.edit(INDEX, |index| index["weight_map"]["classifier.bias"] = json!("model-00001-of-00006.safetensors"))
    });
    assert!(lost.contains("`classifier.bias` is not in model-00001-of-00006.safetensors"), "{lost}");
    let twice = said(&|copy| {
        let (first, second) = (copy.file("model-00001-of-00006.safetensors"), copy.file("model-00002-of-00006.safetensors"));
        std::fs::copy(first, second).expect("copied");
    });
    assert!(twice.contains("and so has another shard"), "{twice}");
    let none = said(&|copy| std::fs::remove_file(copy.file(INDEX)).expect("copied"));
    assert!(none.contains("has neither model.safetensors nor model.safetensors.index.json"), "{none}");
}

/// A repository that was cloned without Git LFS has texts in the place of large files.
#[test]
fn pointers_of_git_lfs_are_told_as_such() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0a1b\nsize 440449768\n";
    for file in ["model-00002-of-00006.safetensors", "config.json"] {
        let copy = Copy::of("bert_class", "pointers");
        std::fs::write(copy.file(file), pointer).expect("copied");
        let said = load_all(&copy.folder());
        let expected = format!("{file}: is a pointer of Git LFS to 440449768 bytes, not the file itself");
        assert!(said.contains(&expected) && said.contains("git lfs pull"), "{said}");
    }
    let copy = Copy::of("bert_class", "pointer");
    let path = copy.file("model-00002-of-00006.safetensors");
    std::fs::write(&path, pointer).expect("copied");
    let read = [Checkpoint::read(&path), Checkpoint::map(&path)];
    for said in read.map(|read| read.expect_err("no weights").to_string()) {
        assert!(said.contains("safetensors: is a pointer of Git LFS"), "{said}");
    }
}

/// Configurations that would take all the memory, or make no model.
#[test]
fn configurations_are_not_believed() {
    let cases: &[(&str, &[&str])] = &[
        ("classify", &["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]),
        ("gpt2", &["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"]),
        ("llama", &["vocab_size", "hidden_size", "head_dim", "num_key_value_heads", "num_hidden_layers", "rope_parameters"]),
        ("t5", &["d_model", "d_kv", "d_ff", "num_heads", "num_layers", "relative_attention_num_buckets", "feed_forward_proj"]),
        ("vit_class", &["image_size", "patch_size", "num_channels", "hidden_size", "num_hidden_layers", "id2label"]),
        ("resnet", &["hidden_sizes", "depths", "embedding_size", "layer_type", "id2label"]),
        ("convnext_class", &["hidden_sizes", "depths", "patch_size", "num_channels", "id2label"]),
    ];
    let values = [
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(1_000_003),
        json!(1u64 << 31),
        json!(u64::MAX),
        json!(1e300),
        json!("relu"),
        json!(null),
        json!([]),
        json!([0]),
        json!([1_000_000_000, 2]),
        json!({}),
        json!({"0": "one", "7": "two"}),
        json!(true),
    ];
    for (case, fields) in cases {
        let copy = Copy::of(case, "config");
        let whole = std::fs::read(copy.file("config.json")).expect("copied");
        for field in *fields {
            for value in &values {
                std::fs::write(copy.file("config.json"), &whole).expect("writable");
                copy.edit("config.json", |config| config[*field] = value.clone());
                load_all(&copy.folder());
            }
        }
    }
    let copy = Copy::of("classify", "said");
    copy.edit("config.json", |config| config["vocab_size"] = json!(1_000_000_000));
    let error = load_all(&copy.folder());
    assert!(error.contains("config.json: asks for a tensor [1000000000, 8], beyond the"), "{error}");
    copy.edit("config.json", |config| {
        config["vocab_size"] = json!(0);
        config["num_attention_heads"] = json!(3);
    });
    let error = load_all(&copy.folder());
    assert!(error.contains("`vocab_size` is 0") && error.contains("`hidden_size` is 8, which is no multiple of"), "{error}");
    copy.edit("config.json", |config| config["vocab_size"] = json!(u64::MAX));
    let error = load_all(&copy.folder());
    assert!(error.contains("`vocab_size`: is 18446744073709551615, and sizes are at most 2147483648"), "{error}");
    // What nobody reads may be any number, and so may what is no size.
    let copy = Copy::of("llama", "large");
    copy.edit("config.json", |config| {
        config["summary_length"] = json!(u64::MAX);
        config["rope_parameters"]["rope_theta"] = json!(10_000_000_000u64);
    });
    CausalLm::<Llama>::of_folder(&copy.folder()).expect("no size is large");
}

#[test]
fn every_field_that_cannot_be_read_is_told_by_its_name() {
    let copy = Copy::of("classify", "fields");
    copy.edit("config.json", |config| {
        config["vocab_size"] = json!([40]);
        config["hidden_act"] = json!("gulu");
        config["layer_norm_eps"] = json!(null);
    });
    let error = load_all(&copy.folder());
    assert!(error.contains("config.json: `vocab_size`: invalid type: sequence"), "{error}");
    assert!(error.contains("config.json: `hidden_act`: there is no activation `gulu`"), "{error}");
    assert!(error.contains("config.json: `layer_norm_eps`: ") && error.lines().count() == 3, "{error}");
    // Of objects inside, too.
    let copy = Copy::of("yarn", "inside");
    copy.edit("config.json", |config| {
        config["rope_parameters"]["factor"] = json!("four");
        config["rope_parameters"]["beta_fast"] = json!([2.0]);
    });
    let error =
        CausalLm::<Llama>::of_folder(&copy.folder()).err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
    assert!(error.contains("config.json: `rope_parameters.factor`: invalid type: string"), "{error}");
    assert!(error.contains("config.json: `rope_parameters.beta_fast`: invalid type: ") && error.lines().count() == 2, "{error}");
    copy.edit("config.json", |config| config["rope_parameters"] = json!(5));
    let error =
        CausalLm::<Llama>::of_folder(&copy.folder()).err().map_or_else(|| "no error".to_owned(), |error| error.to_string());
    assert!(error.contains("config.json: `rope_parameters`: invalid type: integer"), "{error}");
    let copy = Copy::of("classify", "eps");
    copy.edit("config.json", |config| {
        config["layer_norm_eps"] = json!(-1.0);
        config["hidden_dropout_prob"] = json!(2.0);
    });
    let error = load_all(&copy.folder());
    assert!(error.contains("`hidden_dropout_prob` is 2, not in 0..=1"), "{error}");
    assert!(error.contains("`layer_norm_eps` is -1, and is added to variances"), "{error}");
}

/// What transformers reads and Graver does not, by the field's name; null and what is usual are no request.
#[test]
fn what_is_not_supported_is_refused_by_its_name() -> Result<(), Error> {
    let refused = |case: &str, field: &str, value: Value| {
        let copy = Copy::of(case, "refused");
        copy.edit("config.json", |config| {
            let names: Vec<&str> = field.split('.').collect();
            let place = names.iter().fold(config, |value, name| &mut value[*name]);
            *place = value;
        });
        load_all(&copy.folder());
        graver_models::refused(&copy.folder()).map(|error| error.map(|error| error.to_string()))
    };
    for (case, field, value, said) in [
        ("bert_class", "is_decoder", json!(true), "is true; only `false` is supported"),
        ("roberta_class", "add_cross_attention", json!(true), "is true; only `false` is supported"),
        ("gpt2", "add_cross_attention", json!(true), "is true; only `false` is supported"),
        ("bert_class", "position_embedding_type", json!("relative_key"), "is \"relative_key\"; only `absolute` is supported"),
        ("qwen2", "use_sliding_window", json!(true), "is true; only `false` is supported"),
        ("llama", "rope_parameters.partial_rotary_factor", json!(0.5), "is 0.5; only 1 is supported"),
        ("llama", "rope_parameters.rope_type", json!("axial"), "is \"axial\"; only default, linear, "),
        ("vit_class", "image_size", json!([8, 16]), "is [8,16]; only squares are supported"),
    ] {
        let error = refused(case, field, value)?.unwrap_or_else(|| "no error".to_owned());
        assert!(error.contains(&format!("config.json: `{field}` {said}")), "{case}: {error}");
        assert_eq!(refused(case, field, json!(null))?, None, "{case}: {field}");
    }
    assert_eq!(refused("mistral", "use_sliding_window", json!(true))?, None);
    Ok(())
}

/// As transformers has it: the longest text of the model.
#[test]
fn the_length_that_was_trained_on_need_not_be_said() -> Result<(), Error> {
    let copy = Copy::of("yarn", "length");
    let frequencies = |copy: &Copy| {
        let body = format!("{:?}", CausalLm::<Llama>::of_folder(&copy.folder())?.body());
        let rotary = body.split("Rotary {").nth(1).and_then(|rest| rest.split('}').next()).map(str::to_owned);
        Ok::<_, Error>(rotary.expect("heads turn"))
    };
    copy.edit("config.json", |config| {
        config["rope_parameters"]["original_max_position_embeddings"] = config["max_position_embeddings"].clone()
    });
    let said = frequencies(&copy)?;
    copy.edit("config.json", |config| {
        drop(config["rope_parameters"].as_object_mut().expect("fields").remove("original_max_position_embeddings"));
    });
    assert_eq!(frequencies(&copy)?, said);
    assert_ne!(frequencies(&Copy::of("yarn", "shorter"))?, said);
    Ok(())
}

#[test]
fn classes_are_told_with_their_file() {
    type Read = fn(&Folder) -> Option<Error>;
    let kinds: [(&str, Read); 4] = [
        ("classify", |folder| SequenceClassifier::of_folder(folder).err()),
        ("vit_class", |folder| VitClassifier::of_folder(folder).err()),
        ("resnet", |folder| ResNetClassifier::of_folder(folder).err()),
        ("convnext_class", |folder| ConvNextClassifier::of_folder(folder).err()),
    ];
    for (case, read) in kinds {
        let copy = Copy::of(case, "labels");
        for (labels, said) in [
            (json!({}), "`id2label`: there is no class"),
            (json!({"0": "one", "7": "two"}), "`id2label`: the 2 classes are not numbered from 0"),
            (json!({"0": "one", "1": 2}), "`id2label`: the name of class 1 is 2"),
            (json!(["one"]), "`id2label`: invalid type: sequence"),
        ] {
            copy.edit("config.json", |config| config["id2label"] = labels);
            let error = read(&copy.folder()).map_or_else(|| "no error".to_owned(), |error| error.to_string());
            assert!(error.contains(&format!("{}: {said}", copy.file("config.json").display())), "{case}: {error}");
        }
    }
}

#[test]
fn the_side_of_a_square_may_be_said_twice() -> Result<(), Error> {
    let of = |patch: &str| ConvNextConfig::of_json(&format!(r#"{{"model_type": "convnext", "patch_size": {patch}}}"#));
    assert_eq!((of("2")?.patch_size, of("[2, 2]")?.patch_size), (2, 2));
    let said = |patch| of(patch).expect_err("no side of a square").to_string();
    assert!(said("[4, 2]").contains("`patch_size` is [4,2]; only squares are supported"), "{}", said("[4, 2]"));
    assert!(said("[4]").contains("`patch_size`: is neither a size nor a list of two sizes"), "{}", said("[4]"));
    Ok(())
}

/// Every file cut, and every byte of it changed, at many places.
#[test]
fn damaged_files_are_errors() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let whole = std::fs::read(path("classify").join(name)).expect("the reference is kept beside the tests");
        let copy = Copy::of("classify", name);
        for place in (0..whole.len()).step_by(whole.len() / 40 + 1) {
            std::fs::write(copy.file(name), &whole[..place]).expect("writable");
            assert_ne!(load_all(&copy.folder()), "no error", "{name} cut at {place}");
            let mut changed = whole.clone();
            changed[place] ^= 0x15;
            std::fs::write(copy.file(name), changed).expect("writable");
            load_all(&copy.folder());
        }
    }
}

#[test]
fn modules_of_sentences_stay_inside_and_are_known() {
    let said = |change: &dyn Fn(&mut Value)| {
        let copy = Copy::of("sentence", "modules");
        copy.edit("modules.json", change);
        Embedder::of_folder(&copy.folder(), &cpu()).map_or_else(|error| error.to_string(), |_| "no error".to_owned())
    };
    let both = said(&|modules| {
        modules[1]["path"] = json!("../elsewhere");
        modules[2]["type"] = json!("sentence_transformers.models.CNN");
    });
    assert!(both.contains("`../elsewhere` lies outside of the folder"), "{both}");
    assert!(both.contains("the module `sentence_transformers.models.CNN` is not supported"), "{both}");
    let copy = Copy::of("sentence", "pooling");
    copy.edit("1_Pooling/config.json", |config| config["pooling_mode"] = json!("median"));
    let error = Embedder::of_folder(&copy.folder(), &cpu()).expect_err("no such pooling").to_string();
    assert!(error.contains("pooling by `median` is not supported"), "{error}");
    for (file, key, value, words) in [
        (
            "1_Pooling/config.json",
            "word_embedding_dimension",
            999,
            "`word_embedding_dimension` is 999, and the rows of the encoder of tokens are ",
        ),
        ("sentence_bert_config.json", "max_seq_length", 0, "`max_seq_length` is 0"),
    ] {
        let copy = Copy::of("sentence", key);
        copy.edit(file, |config| config[key] = json!(value));
        let error = Embedder::of_folder(&copy.folder(), &cpu()).expect_err(key).to_string();
        assert!(error.contains(words) && error.contains(file), "{error}");
    }
}
