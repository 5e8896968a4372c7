//! Conversations: templates as transformers renders them, and what a model answers over what its cache holds.

use std::collections::BTreeMap;

use graver_models::hub::{ChatTemplate, Folder, Message};
use graver_models::{Decoder, Generator, Gpt2, Llama, Pretrained, Room};
use graver_trace::Error;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{Copy, Reference, cpu, path};

/// What transformers made of templates and conversations.
#[derive(Deserialize)]
struct Chats {
    templates: BTreeMap<String, String>,
    conversations: BTreeMap<String, Vec<Message>>,
    /// By `template.conversation.kind`: a text, or an error.
    texts: BTreeMap<String, Value>,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    prompt: Vec<u32>,
    text: String,
}

fn chats() -> Chats {
    serde_json::from_slice(&std::fs::read(path("chat/chat.json")).expect("kept beside the tests")).expect("JSON")
}

fn folder() -> Folder {
    Folder::open(path("chat")).expect("kept beside the tests")
}

#[test]
fn conversations_are_written_as_transformers_does() -> Result<(), Error> {
    let Chats { templates, conversations, texts, .. } = chats();
    assert_eq!(texts.len(), 28);
    let tokens = [("bos_token", "<s>"), ("eos_token", "<|end|>")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (key, expected) in texts {
        let [template, conversation, kind] = key.split('.').collect::<Vec<_>>()[..] else { panic!("{key}") };
        let template = ChatTemplate::new(&templates[template], tokens.clone())?;
        let messages = &conversations[conversation];
        let written = if kind == "prompt" { template.prompt(messages) } else { template.transcript(messages) };
        match (written, expected) {
            (Ok(text), Value::String(expected)) => assert_eq!(text, expected, "{key}"),
            (Err(error), Value::Object(_)) if conversation == "wrong" => {
                let told = "chat_template: roles must alternate: user, assistant, user, ..";
                assert_eq!(error.to_string(), told, "{key}");
            }
            (Err(_), Value::Object(_)) => {}
            (written, expected) => panic!("{key}: {written:?} is not {expected}"),
        }
    }
    Ok(())
}

/// Every turn reads what is new alone, and answers as a model that reads all of it.
#[test]
fn a_conversation_is_answered_as_transformers_does() -> Result<(), Error> {
    let Chats { conversations, answers, .. } = chats();
    let (template, room) = (folder().chat_template()?, Room { texts: 1, tokens: 160 });
    let mut generator = Generator::of_folder(&folder(), room, &cpu())?;
    let options = generator.options().clone();
    assert_eq!((options.max_new_tokens, &options.eos_token_id[..]), (Some(12), &[1, 200][..]));
    let mut said = conversations["long"][..2].to_vec();
    let more = [conversations["long"][3].clone(), Message::user("and again")];
    for (answer, more) in answers.iter().zip(more.into_iter().map(Some).chain([None])) {
        assert_eq!(folder().tokenizer()?.bare_ids(&template.prompt(&said)?)?, answer.prompt);
        let text: String = generator.answer(&template, &said, &options)?.collect::<Result<_, _>>()?;
        assert_eq!(text, answer.text);
        said.push(Message::assistant(text));
        said.extend(more);
    }
    Ok(())
}

/// What the cache holds of prompts, and no more of it, is not read again: whatever comes after what, scores are those of a decoder
/// that has seen nothing of them.
#[test]
fn what_was_seen_is_not_read_again() -> Result<(), Error> {
    let (gpt2, llama) = (Reference::of("gpt2").folder, Reference::of("mistral").folder);
    let (gpt2, llama) =
        (graver_models::CausalLm::<Gpt2>::of_folder(&gpt2)?, graver_models::CausalLm::<Llama>::of_folder(&llama)?);
    let room = Room { texts: 2, tokens: 10 };
    let make: [&dyn Fn() -> Result<Decoder, Error>; 2] =
        [&|| Decoder::new(&gpt2, room, &cpu()), &|| Decoder::new(&llama, room, &cpu())];
    let turns: [[&[u32]; 2]; 7] = [
        [&[3, 1, 4, 1], &[5, 9, 2, 6]],
        // One token more, of which the first were made in between.
        [&[3, 1, 4, 1, 7, 8], &[5, 9, 2, 6, 7, 11]],
        [&[3, 1, 4, 1, 7, 8], &[5, 9, 2, 6, 7, 11]],
        // The texts part at the third.
        [&[3, 1, 9, 1, 7], &[5, 9, 2, 6, 7]],
        // Behind what is no token, where nothing is the same.
        [&[3, 1, 9, 1, 7], &[5, 9, 2]],
        [&[3, 1, 9, 1, 7, 30], &[5, 9, 2, 31]],
        [&[3], &[5]],
    ];
    for make in make {
        let (mut one, mut other) = (make()?, make()?);
        for (turn, prompts) in turns.iter().enumerate() {
            let found = one.begin(prompts)?.to_f64();
            other.begin(&[[39], [38]])?;
            let expected = other.begin(prompts)?.to_f64();
            for (x, y) in found.iter().zip(&expected) {
                assert!((x - y).abs() <= 1e-5 * y.abs().max(1.0), "turn {turn}: {x} is not {y}");
            }
            if turn == 0 {
                one.next(&[7, 7])?;
            }
            // A call that is refused changes nothing.
            one.begin(&[vec![1; 11], vec![1; 11]]).expect_err("no room");
        }
    }
    Ok(())
}

#[test]
fn templates_are_found_where_transformers_keeps_them() -> Result<(), Error> {
    let hello = [Message::user("Hello")];
    let copy = Copy::of("chat", "template-kept");
    assert_eq!(copy.folder().chat_template()?.transcript(&hello)?, "<s><|user|>Hello<|end|>\n");
    std::fs::remove_file(copy.file("chat_template.jinja")).expect("copied");
    let told = copy.folder().chat_template().expect_err("none").to_string();
    assert!(told.contains("has no chat_template.jinja, and no `chat_template` in tokenizer_config.json"), "{told}");
    copy.edit("tokenizer_config.json", |file| {
        file["eos_token"] = json!({"content": "</s>", "lstrip": false});
        file["chat_template"] = json!("{{ messages[0].content ~ eos_token ~ unk_token }}");
    });
    assert_eq!(copy.folder().chat_template()?.prompt(&hello)?, "Hello</s>");
    copy.edit("tokenizer_config.json", |file| {
        file["chat_template"] = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]);
    });
    assert_eq!(copy.folder().chat_template()?.prompt(&hello)?, "yes");
    copy.edit("tokenizer_config.json", |file| file["chat_template"] = json!("{% if %}"));
    let told = copy.folder().chat_template().expect_err("malformed").to_string();
    assert!(told.contains("tokenizer_config.json: line 1 of the template: "), "{told}");
    Ok(())
}

/// Marks of what is trained on, which transformers knows, are around nothing here; spaces beside them are as elsewhere.
#[test]
fn marks_around_what_the_model_says_are_no_text() -> Result<(), Error> {
    let said = [Message::user("Hello"), Message::assistant("Hi")];
    let template = |open: &str, close: &str| {
        format!("{{% for m in messages %}}\n  {open}\n {{{{ m.content }}}} \n  {close}\n.{{% endfor %}}")
    };
    for (open, close) in [
        ("{% generation %}", "{% endgeneration %}"),
        ("{%- generation -%}", "{%- endgeneration -%}"),
        ("{%generation-%}", "{%-endgeneration%}"),
    ] {
        let plain = |tag: &str, to: &str| tag.replace("endgeneration", "endif").replace("generation", to);
        let expected = ChatTemplate::new(&template(&plain(open, "if true"), &plain(close, "")), [])?.transcript(&said)?;
        assert_eq!(ChatTemplate::new(&template(open, close), [])?.transcript(&said)?, expected, "{open}");
        assert!(expected.contains("Hello") && expected.contains("Hi"), "{expected:?}");
    }
    let text = ChatTemplate::new("a {%- generation %} generation {% endgeneration -%} b", [])?.transcript(&said)?;
    assert_eq!(text, "a generation b");
    Ok(())
}

/// Templates are strangers' programs.
#[test]
fn templates_end_and_fit_into_memory() -> Result<(), Error> {
    let long =
        "{% for i in range(99999) %}{% for j in range(99999) %}{% for k in range(99999) %}{% endfor %}{% endfor %}{% endfor %}";
    let wide = format!("{{% set x = 'graver' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    for template in [long, &wide, "{{ 'x' * 9999999999 }}", "{{ unknown() }}", "{{ none.x.y }}", "{{ strftime_now('%J') }}"] {
        let error = ChatTemplate::new(template, [])?.prompt(&[Message::user("Hello")]).expect_err("refused").to_string();
        assert!(error.starts_with("chat_template: "), "{error}");
    }
    let today = ChatTemplate::new("{{ strftime_now('%Y-%m-%d') }}", [])?.prompt(&[])?;
    assert!(today.len() == 10 && today.starts_with("20"), "{today}");
    let error = Message::of_json(r#"[{"content": "who?"}]"#).expect_err("nobody").to_string();
    assert!(error.contains("missing field `role`") && error.contains(r#"messages are [{"role": "user""#), "{error}");
    Ok(())
}
