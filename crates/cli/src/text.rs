//! `graver embed`, `graver classify` and `graver generate`: texts and pictures over a pretrained model's folder.

use std::fmt::Write;
use std::sync::Arc;

use graver_data::npy;
use graver_models::hub::Folder;
use graver_models::{
    Classifier, Configuration, Embedder, Generation, Generator, ImageClassifier, Picture, Room, Scored, SentenceEncoder,
    TextConfig, model_type, refused,
};

use crate::failure::{Failure, print};
use crate::run::device;
use crate::{Classify, Embed, Generate, Machine, Pretrained, chat};

/// `graver embed`: a line of JSON for each text, or one array for all.
pub(crate) fn embed(args: &Embed) -> Result<(), Failure> {
    let folder = found(&args.model)?;
    able(&SentenceEncoder::body_folder(&folder)?, encodes_texts(), &[])?;
    let embedder = Embedder::of_folder(&folder, &on(&args.machine)?)?;
    let rows = embedder.embed(&args.texts)?;
    if let Some(path) = &args.output {
        return Ok(npy::write_file(path, &rows)?);
    }
    let rows =
        rows.fetch()?.as_slice::<f32>().ok_or_else(|| Failure::Unsupported("the model's results are no f32".to_owned()))?;
    let row = |row: &[f32]| format!("[{}]\n", row.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    print(&rows.chunks(rows.len() / args.texts.len()).map(row).collect::<String>())
}

/// `graver classify`: the classes of each text or picture, the likeliest first.
pub(crate) fn classify(args: &Classify) -> Result<(), Failure> {
    if !args.image.is_empty() {
        return classify_pictures(args);
    }
    let folder = found(&args.model)?;
    able(&folder, encodes_texts(), &[(classifies_pictures(), "give files by --image")])?;
    let classifier = Classifier::of_folder(&folder, &on(&args.machine)?)?;
    print(&listed(&args.texts, classifier.classify(&args.texts)?))
}

fn classify_pictures(args: &Classify) -> Result<(), Failure> {
    let folder = found(&args.model)?;
    able(&folder, classifies_pictures(), &[(encodes_texts(), "give texts, without --image")])?;
    // Read before the model is compiled.
    let pictures = args.image.iter().map(Picture::read).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = args.image.iter().map(|path| path.display().to_string()).collect();
    let classifier = ImageClassifier::of_folder(&folder, &on(&args.machine)?)?;
    print(&listed(&names, classifier.classify(&pictures)?))
}

/// A line for each class, and of several things each one's name before its classes.
fn listed(names: &[String], classes: Vec<Vec<Scored>>) -> String {
    let mut out = String::new();
    for (name, classes) in names.iter().zip(classes) {
        if names.len() > 1 {
            out.push_str(&format!("{name}\n"));
        }
        for Scored { label, score } in classes {
            writeln!(out, "{score:.6}  {label}").expect("a string takes all that is written");
        }
    }
    out
}

/// `graver generate`: what follows the prompt, piece by piece.
pub(crate) fn generate(args: &Generate) -> Result<(), Failure> {
    let folder = found(&args.model)?;
    able(&folder, generates_text(), &[])?;
    if let Some(error) = Generation::refused(&folder)? {
        return Err(Failure::unsupported(&error));
    }
    let options = wanted(args, Generation::of_folder(&folder)?);
    // Checked before the model is compiled.
    options.check()?;
    let device = on(&args.machine)?;
    let Some(prompt) = &args.from.prompt else { return chat::converse(args, &folder, options, &device) };
    let length = folder.tokenizer()?.ids(prompt)?.len();
    let room = Room { texts: 1, tokens: options.longest(length) };
    let mut generator = Generator::of_folder(&folder, room, &device)?;
    for piece in generator.stream(prompt, &options)? {
        print(&piece?)?;
    }
    print("\n")
}

/// What the folder says, changed by what was asked for.
fn wanted(args: &Generate, said: Generation) -> Generation {
    let is_drawn = args.temperature.is_some() || args.top_k.is_some() || args.top_p.is_some() || args.seed.is_some();
    Generation {
        max_new_tokens: args.max_new_tokens.or(said.max_new_tokens),
        do_sample: said.do_sample || is_drawn,
        temperature: args.temperature.unwrap_or(said.temperature),
        top_k: args.top_k.unwrap_or(said.top_k),
        top_p: args.top_p.unwrap_or(said.top_p),
        seed: args.seed.unwrap_or(said.seed),
        ..said
    }
}

/// What a model does, and the families that do it.
struct Ability {
    what: &'static str,
    known: Vec<&'static str>,
}

fn encodes_texts() -> Ability {
    Ability { what: "encode texts", known: TextConfig::DEFAULTS.iter().map(|(known, _)| *known).collect() }
}

fn classifies_pictures() -> Ability {
    Ability { what: "classify pictures", known: ImageClassifier::families().to_vec() }
}

fn generates_text() -> Ability {
    Ability { what: "generate text", known: Generator::families().to_vec() }
}

/// That a folder's family does what is wanted, and nothing that is not supported; else which others do, and the advice of an ability that it
/// has instead.
fn able(folder: &Folder, wanted: Ability, instead: &[(Ability, &str)]) -> Result<(), Failure> {
    let (family, _) = model_type(folder)?;
    let has = |ability: &Ability| ability.known.contains(&family.as_str());
    if has(&wanted) {
        return refused(folder)?.map_or(Ok(()), |error| Err(Failure::unsupported(&error)));
    }
    let (path, Ability { what, known }) = (folder.path().display(), wanted);
    let advice = instead.iter().find(|(ability, _)| has(ability));
    let rest = advice
        .map_or_else(|| format!("known: {}", known.join(", ")), |(ability, advice)| format!("it may {}: {advice}", ability.what));
    Err(Failure::Unsupported(format!("{path}: the model type `{family}` does not {what}; {rest}")))
}

/// The model's folder.
#[cfg(feature = "download")]
fn found(args: &Pretrained) -> Result<Folder, Failure> {
    if !args.download {
        return Ok(Folder::open(&args.model)?);
    }
    let hub = graver_models::hub::Hub::from_env().revision(&args.revision).progress(true);
    Ok(hub.fetch(&args.model.to_string_lossy())?)
}

#[cfg(not(feature = "download"))]
fn found(args: &Pretrained) -> Result<Folder, Failure> {
    Ok(Folder::open(&args.model)?)
}

fn on(machine: &Machine) -> Result<graver_trace::Device, Failure> {
    Ok(graver_trace::Device::new(Arc::from(device(machine)?)))
}
