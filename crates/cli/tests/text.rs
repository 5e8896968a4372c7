//! Texts over pretrained models' folders, which are the references of `graver-models`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use graver_data::{Limit, npy};

fn model(case: &str) -> String {
    format!("{}/../models/tests/reference/{case}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs the command, which must end with this code; gives standard output and standard error.
fn ends(args: &[&str], code: i32) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_graver")).args(args).output().expect("the command starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "graver {args:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

#[test]
fn embeddings_are_lines_or_an_array() {
    let texts = ["A graver cuts lines into copper.", "Ink fills them"];
    let sentence = model("sentence");
    let (out, _) = ends(&["embed", "--model", &sentence, texts[0], texts[1]], 0);
    let number = |text: &str| text.trim_matches(['[', ']', ' ']).parse::<f32>().expect("a number");
    let rows: Vec<Vec<f32>> = out.lines().map(|line| line.split(',').map(number).collect()).collect();
    assert_eq!((rows.len(), rows[0].len()), (2, 32));
    let path = PathBuf::from(format!("{}/graver-cli-{}-embed.npy", std::env::temp_dir().display(), std::process::id()));
    let file = path.display().to_string();
    ends(&["embed", "--model", &sentence, "--threads", "1", "-o", &file, texts[0], texts[1]], 0);
    let array = npy::read_file(&path, Limit::default()).expect("just written");
    std::fs::remove_file(&path).expect("just written");
    assert_eq!(array.shape(), [2, 32]);
    assert_eq!(array.as_slice::<f32>(), Some(rows.concat().as_slice()));
}

#[test]
fn classes_are_lines_the_likeliest_first() {
    let (out, _) = ends(&["classify", "--model", &model("classify"), "Ink fills them"], 0);
    let lines: Vec<(&str, &str)> = out.lines().map(|line| line.split_once("  ").expect("a score and a class")).collect();
    let scores: Vec<f64> = lines.iter().map(|(score, _)| score.parse().expect("a number")).collect();
    assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5 && scores.is_sorted_by(|x, y| x >= y), "{out}");
    let mut labels: Vec<&str> = lines.iter().map(|(_, label)| *label).collect();
    labels.sort_unstable();
    assert_eq!(labels, ["bad", "fair", "good"]);
    let (out, _) = ends(&["classify", "--model", &model("classify"), "one", "two"], 0);
    assert!(out.starts_with("one\n0.") && out.contains("\ntwo\n0.") && out.lines().count() == 8, "{out}");
}

#[test]
fn bad_input_ends_with_2_and_other_families_with_3() {
    let (_, err) = ends(&["embed", "--model", "/no/such/folder", "text"], 2);
    assert!(err.contains("/no/such/folder: there is no such folder"), "{err}");
    let (_, err) = ends(&["classify", "--model", &model("bert"), "text"], 2);
    assert!(err.contains("`classifier.weight` is missing"), "{err}");
    let (_, err) = ends(&["embed", "--model", &model("gpt2"), "text"], 3);
    assert!(err.contains("the model type `gpt2` does not encode texts; known: bert, roberta"), "{err}");
    ends(&["embed", "--model", &model("sentence")], 2);
}

/// A reference's folder with fields of a file changed, for as long as this lives.
struct Changed(PathBuf);

impl Changed {
    fn new(case: &str, file: &str, fields: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("graver-cli-{}-{case}-changed", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        for entry in std::fs::read_dir(model(case)).expect("kept beside the tests") {
            let path = entry.expect("readable").path();
            if path.is_file() {
                std::fs::copy(&path, folder.join(path.file_name().expect("a file"))).expect("readable");
            }
        }
        let old = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|_| "{}".to_owned());
        // The last of two fields of a name is read.
        let rest = old.trim_end().strip_suffix('}').expect("an object").trim_end();
        let comma = if rest.ends_with('{') { "" } else { "," };
        std::fs::write(folder.join(file), format!("{rest}{comma}{fields}}}")).expect("writable");
        Self(folder)
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

#[test]
fn valid_folders_that_are_not_supported_end_with_3() {
    for (case, file, fields, words, command) in [
        (
            "qwen2",
            "config.json",
            r#""use_sliding_window": true"#,
            "`use_sliding_window` is true",
            &["generate", "--prompt", "x"][..],
        ),
        (
            "llama",
            "config.json",
            r#""partial_rotary_factor": 0.5"#,
            "`partial_rotary_factor` is 0.5",
            &["generate", "--prompt", "x"],
        ),
        ("bert", "config.json", r#""position_embedding_type": "relative_key""#, "only `absolute`", &["embed", "x"]),
        ("classify", "config.json", r#""is_decoder": true"#, "`is_decoder` is true", &["classify", "x"]),
        ("vit_class", "config.json", r#""image_size": [8, 16]"#, "only squares", &["classify", "--image", "PICTURE"]),
        (
            "generate",
            "generation_config.json",
            r#""dola_layers": "high""#,
            "`dola_layers` is \"high\"",
            &["generate", "--prompt", "x"],
        ),
    ] {
        let (folder, picture) = (Changed::new(case, file, fields), format!("{}/grey.png", model("pictures")));
        let given = command.iter().map(|word| if *word == "PICTURE" { picture.as_str() } else { word });
        let folder = folder.0.display().to_string();
        let args: Vec<&str> = given.chain(["--model", &folder]).collect();
        let (_, err) = ends(&args, 3);
        assert!(err.contains("not supported: ") && err.contains(&format!("{folder}/{file}: ")) && err.contains(words), "{err}");
    }
}

#[test]
fn pictures_are_classified() {
    let picture = |name: &str| format!("{}/{name}", model("pictures"));
    let (colours, grey) = (picture("colours.png"), picture("grey.png"));
    let (out, _) = ends(&["classify", "--model", &model("vit_class"), "--image", &colours], 0);
    assert!(out.starts_with("0.5470") && out.lines().next().is_some_and(|line| line.ends_with("  fair")), "{out}");
    let (out, _) = ends(&["classify", "--model", &model("resnet"), "--image", &colours, &grey], 0);
    assert!(out.starts_with(&format!("{colours}\n0.356")) && out.contains(&format!("\n{grey}\n0.392")), "{out}");
    let wrong = |case: &str, more: &[&str], code| ends(&[&["classify", "--model", &model(case)], more].concat(), code).1;
    let told = wrong("vit_class", &["--image", "/no/such.png"], 2);
    assert!(told.contains("/no/such.png: No such file"), "{told}");
    let told = wrong("vit_class", &["--image", &format!("{}/config.json", model("vit_class"))], 2);
    assert!(told.contains("config.json: no PNG or JPEG picture"), "{told}");
    let told = wrong("gpt2", &["--image", &colours], 3);
    assert!(told.contains("the model type `gpt2` does not classify pictures; known: vit, resnet"), "{told}");
    wrong("vit_class", &["a text", "--image", &colours], 2);
    let told = wrong("classify", &["--image", &colours], 3);
    assert!(told.contains("does not classify pictures; it may encode texts: give texts, without --image"), "{told}");
    let told = wrong("vit_class", &["a text"], 3);
    assert!(told.contains("`vit` does not encode texts; it may classify pictures: give files by --image"), "{told}");
    wrong("vit_class", &[], 2);
}

/// Runs the command over standard input; gives standard output and standard error.
fn hears(args: &[&str], input: &str, code: i32) -> (String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_graver"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // One that ends before it reads is one of the cases.
    drop(child.stdin.take().expect("piped").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the command ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "graver {args:?}\n{out}\n{err}");
    assert!(!err.contains("panicked"), "{err}");
    (out, err)
}

#[test]
fn conversations_are_answered() {
    let chat = model("chat");
    let generate = |more: &[&str], input: &str, code| hears(&[&["generate", "--model", &chat], more].concat(), input, code);
    let messages = r#"[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Ink fills them"}]"#;
    let (answer, _) = generate(&["--messages", "-"], messages, 0);
    assert!(answer.ends_with('\n') && answer.len() > 1, "{answer:?}");
    // The same, a line at a time; empty lines are none.
    let (chatted, _) = generate(&["--chat", "--system", "Be brief."], "Ink fills them\n", 0);
    assert_eq!(chatted, answer);
    let (longer, _) = generate(&["--chat", "--system", "Be brief."], "Ink fills them\n\nand again\n", 0);
    assert!(longer.starts_with(&answer) && longer.len() > answer.len() + 1, "{longer:?}");
    assert_eq!(generate(&["--chat"], "", 0).0, "");
    let told = |more: &[&str], input: &str, code, what: &str| {
        let (_, err) = generate(more, input, code);
        assert!(err.contains(what), "{err}");
    };
    told(&["--messages", "-"], "[]", 2, "-: has no message");
    told(&["--messages", "-"], "{}", 2, r#"messages are [{"role": "user", "content": "Hello"}]"#);
    told(&["--messages", "/no/such.json"], "", 2, "/no/such.json: No such file");
    told(&["--chat", "--room", "9"], "Ink fills them, and the press\n", 2, "are more than the 9 that there is room for");
    told(&["--chat", "--room", "0"], "", 2, "there must be room for a text and a token");
    told(&["--chat", "--prompt", "both"], "", 2, "cannot be used with");
    told(&[], "", 2, "required");
    let (_, err) = hears(&["generate", "--model", &model("gpt2"), "--chat"], "", 2);
    assert!(err.contains("has no chat_template.jinja, and no `chat_template` in tokenizer_config.json"), "{err}");
}

/// The prompt, what follows it, and how it begins, of `make.py`.
const PROMPT: &str = "A graver cuts lines into copper.";

#[test]
fn what_follows_a_prompt_is_drawn_by_the_seed() {
    let generate = |more: &[&str]| ends(&[&["generate", "--model", &model("generate"), "--prompt", PROMPT], more].concat(), 0).0;
    // As the folder says: the likeliest, until one of its two stop tokens.
    let (said, longer) = (generate(&[]), generate(&["--max-new-tokens", "3", "--threads", "1"]));
    assert!(said.ends_with('\n') && said.starts_with(longer.trim_end()), "{said:?} {longer:?}");
    assert_eq!(generate(&["--temperature", "0", "--seed", "5"]), said);
    let drawn = |seed: &str, threads: &str| generate(&["--seed", seed, "--top-k", "0", "--threads", threads]);
    assert_eq!(drawn("5", "1"), drawn("5", "2"));
    assert!(drawn("5", "1") != drawn("6", "1") && drawn("5", "1") != said);
    assert_eq!(generate(&["--top-k", "1"]), said);
    assert_eq!(generate(&["--top-p", "0.000001"]), said);
}

#[test]
fn what_cannot_be_generated_is_told() {
    let generate = |case: &str, more: &[&str], code| ends(&[&["generate", "--model", &model(case)], more].concat(), code).1;
    let told = generate("generate", &["--prompt", ""], 2);
    assert!(told.contains("a prompt has no tokens"), "{told}");
    let told = generate("generate", &["--prompt", PROMPT, "--max-new-tokens", "100"], 2);
    assert!(
        told.contains("100 tokens behind a prompt of") && told.contains("are more than the 48 that there is room for"),
        "{told}"
    );
    let told = generate("generate", &["--prompt", &PROMPT.repeat(9)], 2);
    assert!(told.contains("that there is room for"), "{told}");
    let told = generate("generate", &["--prompt", PROMPT, "--temperature=-1", "--top-p", "2"], 2);
    assert!(told.contains("`temperature` is -1") && told.contains("`top_p` is 2"), "{told}");
    let told = generate("bert", &["--prompt", PROMPT], 3);
    assert!(told.contains("the model type `bert` does not generate text; known: gpt2, llama"), "{told}");
    generate("generate", &[], 2);
}
