//! `graver generate --chat` and `--messages`: conversations with a pretrained model.

use std::io::{IsTerminal, Read};
use std::path::Path;

use graver_models::hub::{ChatTemplate, Folder, Message};
use graver_models::{Generation, Generator, Room};
use graver_trace::Device;

use crate::Generate;
use crate::failure::{Failure, print};

/// The most bytes of a conversation that is read.
const MAX_MESSAGES: u64 = 1 << 24;

/// Answers the conversation of a file, or every line of standard input.
pub(crate) fn converse(args: &Generate, folder: &Folder, options: Generation, device: &Device) -> Result<(), Failure> {
    let template = folder.chat_template()?;
    let mut said: Vec<Message> = args.system.iter().map(Message::system).collect();
    if let Some(path) = &args.from.messages {
        said.extend(messages(path)?);
        // What the template refuses is told before the model is compiled.
        template.prompt(&said)?;
    }
    let mut generator = Generator::of_folder(folder, Room { texts: 1, tokens: args.room }, device)?;
    let options = until_the_room_ends(options, &generator);
    if args.from.messages.is_some() {
        return answer(&mut generator, &template, &said, &options).map(drop);
    }
    let is_terminal = std::io::stdin().is_terminal();
    let invite = || if is_terminal { print("> ") } else { Ok(()) };
    invite()?;
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| Failure::Input(format!("standard input: {error}")))?;
        if !line.trim().is_empty() {
            said.push(Message::user(line));
            let answered = answer(&mut generator, &template, &said, &options)?;
            said.push(Message::assistant(answered));
        }
        invite()?;
    }
    Ok(())
}

/// Prints what the model answers, piece by piece.
fn answer(generator: &mut Generator, template: &ChatTemplate, said: &[Message], options: &Generation) -> Result<String, Failure> {
    let mut answered = String::new();
    for piece in generator.answer(template, said, options)? {
        let piece = piece?;
        print(&piece)?;
        answered.push_str(&piece);
    }
    print("\n")?;
    Ok(answered)
}

/// A model that was trained on conversations ends its answers itself.
fn until_the_room_ends(options: Generation, generator: &Generator) -> Generation {
    let room = generator.decoder().room().tokens;
    Generation { max_length: Some(options.max_length.unwrap_or(room)), ..options }
}

fn messages(path: &Path) -> Result<Vec<Message>, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::file(path, error);
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_MESSAGES + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_MESSAGES + 1).read_to_string(&mut text))
    };
    let length = read.map_err(|error| wrong(&error))?;
    if u64::try_from(length).expect("a usize has at most 64 bits") > MAX_MESSAGES {
        return Err(wrong(&format!("more bytes than a conversation may have ({MAX_MESSAGES})")));
    }
    let said = Message::of_json(&text).map_err(|error| wrong(&error))?;
    if said.is_empty() { Err(wrong(&"has no message")) } else { Ok(said) }
}
