//! From a prompt to the text that follows: a folder's tokeniser, model and options.

use graver_hub::{ChatTemplate, Folder, Growing, Message, Tokenizer};
use graver_ir::{Diag, Error};
use graver_trace::Device;

use super::{Continuation, Decoder, Generation, Room};
use crate::causal::{CausalLm, Gpt2, Llama};
use crate::pretrained::{Pretrained, model_type};
use crate::t5::T5;

/// Texts that go on.
///
/// ```no_run
/// use graver_models::{Generation, Generator, Room, hub::Folder};
/// let mut generator = Generator::of_folder(&Folder::open("gpt2")?, Room { texts: 1, tokens: 200 }, &graver::cpu())?;
/// let options = Generation { max_new_tokens: Some(40), do_sample: true, seed: 1, ..generator.options().clone() };
/// for piece in generator.stream("A graver is a tool", &options)? {
///     print!("{}", piece?);
/// }
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Debug)]
pub struct Generator {
    tokenizer: Tokenizer,
    decoder: Decoder,
    options: Generation,
}

/// What `model_type` may be.
const FAMILIES: [&str; 5] = ["gpt2", "llama", "mistral", "qwen2", "t5"];

impl Generator {
    /// The model of a folder, with room for so much.
    ///
    /// # Errors
    /// If files are missing or malformed, or the model is not supported.
    pub fn of_folder(folder: &Folder, room: Room, device: &Device) -> Result<Self, Error> {
        let (family, _) = model_type(folder)?;
        let decoder = match family.as_str() {
            "gpt2" => Decoder::new(&CausalLm::<Gpt2>::of_folder(folder)?, room, device)?,
            "llama" | "mistral" | "qwen2" => Decoder::new(&CausalLm::<Llama>::of_folder(folder)?, room, device)?,
            "t5" => {
                let start = Generation::start(folder)?;
                let decoder = Decoder::of_t5(&T5::of_folder(folder)?, room, device)?;
                if let Some(start) = start { decoder.starting(start)? } else { decoder }
            }
            _ => {
                let message = format!("the model type `{family}` does not generate text; known: {}", FAMILIES.join(", "));
                return Err(Diag::new(message).op(folder.path().display().to_string()).into());
            }
        };
        Ok(Self::new(decoder, folder.tokenizer()?, Generation::of_folder(folder)?))
    }

    /// A model that was made or trained in the program.
    #[must_use]
    pub const fn new(decoder: Decoder, tokenizer: Tokenizer, options: Generation) -> Self {
        Self { tokenizer, decoder, options }
    }

    /// The families that generate text, as `model_type` has them.
    #[must_use]
    pub const fn families() -> &'static [&'static str] {
        &FAMILIES
    }

    /// What the folder says about how texts go on.
    #[must_use]
    pub const fn options(&self) -> &Generation {
        &self.options
    }

    /// The model.
    #[must_use]
    pub const fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// What follows a prompt, in pieces as they come: whole characters, never the prompt itself.
    ///
    /// # Errors
    /// If there is room for several texts, or as [`Decoder::generate`]; each piece may be an error, which is the last.
    pub fn stream(&mut self, prompt: &str, options: &Generation) -> Result<Pieces<'_>, Error> {
        let ids = self.tokenizer.ids(prompt)?;
        self.pieces(&ids, options)
    }

    /// What the model answers in a conversation, in pieces as they come. What was said before the last answer is in the cache still, and is
    /// not read again.
    ///
    /// ```no_run
    /// use graver_models::{Generator, Room, hub::{Folder, Message}};
    /// let folder = Folder::open("SmolLM2-135M-Instruct")?;
    /// let (template, mut said) = (folder.chat_template()?, vec![Message::system("Answer in one sentence.")]);
    /// let mut generator = Generator::of_folder(&folder, Room { texts: 1, tokens: 1000 }, &graver::cpu())?;
    /// let options = generator.options().clone();
    /// for line in ["What is a graver?", "And a burin?"] {
    ///     said.push(Message::user(line));
    ///     let answer: String = generator.answer(&template, &said, &options)?.collect::<Result<_, _>>()?;
    ///     said.push(Message::assistant(answer));
    /// }
    /// # Ok::<(), graver_ir::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the template refuses the conversation, and as [`Generator::stream`].
    pub fn answer(&mut self, template: &ChatTemplate, messages: &[Message], options: &Generation) -> Result<Pieces<'_>, Error> {
        let ids = self.tokenizer.bare_ids(&template.prompt(messages)?)?;
        self.pieces(&ids, options)
    }

    fn pieces(&mut self, ids: &[u32], options: &Generation) -> Result<Pieces<'_>, Error> {
        let text = self.tokenizer.growing(&self.decoder.beginning(ids));
        let tokens = self.decoder.generate(&[ids], options)?;
        Ok(Pieces { text, tokens })
    }

    /// What follows each of as many prompts as there is room for.
    ///
    /// # Errors
    /// As [`Decoder::generate`].
    pub fn generate<T: AsRef<str>>(&mut self, prompts: &[T], options: &Generation) -> Result<Vec<String>, Error> {
        let ids = prompts.iter().map(|prompt| self.tokenizer.ids(prompt.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let grow = |ids: &Vec<u32>| self.tokenizer.growing(&self.decoder.beginning(ids));
        let mut growing: Vec<Growing<'_>> = ids.iter().map(grow).collect();
        let mut texts = vec![String::new(); ids.len()];
        for step in self.decoder.generate(&ids, options)? {
            for ((token, growing), text) in step?.into_iter().zip(&mut growing).zip(&mut texts) {
                if let Some(token) = token {
                    text.push_str(&growing.push(token)?);
                }
            }
        }
        for (growing, text) in growing.iter_mut().zip(&mut texts) {
            text.push_str(&growing.rest()?);
        }
        Ok(texts)
    }
}

/// A text as it goes on, in pieces.
#[derive(Debug)]
#[must_use]
pub struct Pieces<'g> {
    text: Growing<'g>,
    tokens: Continuation<'g>,
}

impl Pieces<'_> {
    /// The piece of one token, which may be empty, or after the last one what is left.
    fn piece(&mut self) -> Option<Result<String, Error>> {
        match self.tokens.next() {
            Some(Ok(step)) => {
                let token = step.into_iter().flatten().next().expect("a text that has not ended has a token");
                Some(self.text.push(token))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(self.text.rest()).filter(|rest| rest.as_ref().map_or(true, |rest| !rest.is_empty())),
        }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.piece()? {
                Ok(piece) if piece.is_empty() => {}
                piece => return Some(piece),
            }
        }
    }
}
