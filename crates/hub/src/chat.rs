//! Conversations as the texts that models were trained on: Jinja templates, by the `minijinja` crate.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use graver_ir::{Diag, Error};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, Value as Jinja, context};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};

use crate::date;
use crate::folder::Folder;
use crate::json::{self, wrong};

/// What somebody says in a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who: `system`, `user`, `assistant`, or as the template has it.
    pub role: String,
    /// What.
    #[serde(default)]
    pub content: Value,
    /// What else a template may look for: `tool_calls`, `name`.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Message {
    /// So somebody says so.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: Value::String(content.into()), more: Map::new() }
    }

    /// What the model should be like.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// What the model is told or asked.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// What the model says.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }

    /// Messages as JSON has them: `[{"role": "user", "content": "Hello"}]`.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn of_json(text: &str) -> Result<Vec<Self>, Error> {
        let help = r#"messages are [{"role": "user", "content": "Hello"}]"#;
        serde_json::from_str(text).map_err(|error| Diag::new(error.to_string()).help(help).into())
    }
}

/// How conversations are written for a model.
///
/// ```
/// use graver_hub::{ChatTemplate, Message};
/// let template = ChatTemplate::new(
///     "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ end }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
///     [("end".to_owned(), "</s>".to_owned())],
/// )?;
/// assert_eq!(template.prompt(&[Message::user("Hello")])?, "<user>Hello</s><assistant>");
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// The texts of special tokens by their names: `eos_token`.
    tokens: BTreeMap<String, String>,
    source: String,
}

/// What a template may do, in steps of its own and in 64 bytes that it writes: a stranger's program is to end, and to fit into memory.
const FUEL: u64 = 1 << 22;

/// The name by which errors call it.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// A template, and the names under which it has special tokens.
    ///
    /// # Errors
    /// If it is malformed.
    pub fn new(template: &str, tokens: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        Self::from_source(template, tokens.into_iter().collect(), NAME.to_owned())
    }

    /// The template of a folder.
    ///
    /// # Errors
    /// If it has none, or it cannot be read or is malformed.
    pub fn of_folder(folder: &Folder) -> Result<Self, Error> {
        let (own, config) = (folder.path().join("chat_template.jinja"), folder.path().join("tokenizer_config.json"));
        let fields = if config.is_file() { json::value(&config)? } else { Value::Null };
        let tokens = special_tokens(&fields);
        if own.is_file() {
            let template = String::from_utf8(json::bytes(&own)?).map_err(|error| wrong(&own, &error))?;
            return Self::from_source(&template, tokens, own.display().to_string());
        }
        match said(&fields) {
            Some(template) => Self::from_source(template, tokens, config.display().to_string()),
            None => Err(without(folder.path())),
        }
    }

    fn from_source(template: &str, tokens: BTreeMap<String, String>, source: String) -> Result<Self, Error> {
        let mut environment = environment();
        environment.add_template_owned(NAME, unmarked(template)).map_err(|error| told(&error, &source))?;
        Ok(Self { environment, tokens, source })
    }

    /// The conversation up to where the model is to answer.
    ///
    /// # Errors
    /// If the template refuses it: for roles that do not alternate, for one.
    pub fn prompt(&self, messages: &[Message]) -> Result<String, Error> {
        self.write(messages, true)
    }

    /// The conversation as it is: what a model is trained on.
    ///
    /// # Errors
    /// As [`ChatTemplate::prompt`].
    pub fn transcript(&self, messages: &[Message]) -> Result<String, Error> {
        self.write(messages, false)
    }

    fn write(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).expect("added when this was made");
        let tokens = Jinja::from_pairs(self.tokens.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let messages = Jinja::from(Serde(messages));
        let given = context! { messages, add_generation_prompt, tools => (), documents => (), ..tokens };
        template.render(given).map_err(|error| told(&error, &self.source))
    }
}

/// The template without the marks around what the model says, `{% generation %}` and `{% endgeneration %}`: blocks that are only scopes are in
/// their places, with the same control of spaces.
fn unmarked(template: &str) -> String {
    let mut pieces = template.split("{%");
    let before = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(before, |text, piece| {
        let (tag, rest) = piece.split_at(piece.find("%}").unwrap_or(piece.len()));
        let name = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let tag = if matches!(name, "generation" | "endgeneration") { tag.replace("generation", "with") } else { tag.to_owned() };
        text + "{%" + &tag + rest
    })
}

/// As transformers sets Jinja up, and with what it adds.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters"));
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| {
        Err::<Jinja, _>(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_filter("tojson", |value: &Jinja, options: Kwargs| python_json(value, options.get("indent")?));
    environment.add_function("strftime_now", |format: String| {
        let unknown = || minijinja::Error::new(ErrorKind::InvalidOperation, format!("no date is written as `{format}`"));
        date::now(&format).ok_or_else(unknown)
    });
    environment
}

/// JSON as Python's `json.dumps` writes it: a space behind every comma and colon.
fn python_json(value: &Jinja, indent: Option<usize>) -> Result<String, minijinja::Error> {
    struct Spaced;
    impl Formatter for Spaced {
        fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
            if first { Ok(()) } else { writer.write_all(b", ") }
        }

        fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
            self.begin_array_value(writer, first)
        }

        fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut out = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(width) => {
            let spaces = " ".repeat(width.min(16));
            value.serialize(&mut Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(spaces.as_bytes())))
        }
    };
    written.map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    Ok(String::from_utf8(out).expect("JSON is text"))
}

/// The template that a tokeniser's file has: one, or several by name, of which the default one is taken.
fn said(fields: &Value) -> Option<&str> {
    match fields.get("chat_template")? {
        Value::String(template) => Some(template),
        Value::Array(several) => several.iter().find(|each| each["name"] == "default")?["template"].as_str(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

/// The special tokens that a tokeniser's file names: as texts, or as objects with a text.
fn special_tokens(fields: &Value) -> BTreeMap<String, String> {
    let named = fields.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token"));
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(str::to_owned);
    named.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect()
}

fn without(folder: &Path) -> Error {
    let message = "has no chat_template.jinja, and no `chat_template` in tokenizer_config.json";
    let help = "a model that was not trained on conversations goes on from plain texts";
    Diag::new(message).help(help).op(folder.display().to_string()).into()
}

fn told(error: &minijinja::Error, source: &str) -> Error {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    // Of what happens as it runs, the line is not always the right one.
    let line = error.line().filter(|_| error.kind() == ErrorKind::SyntaxError);
    let line = line.map(|line| format!("line {line} of the template: ")).unwrap_or_default();
    Diag::new(format!("{line}{detail}")).op(source).into()
}
