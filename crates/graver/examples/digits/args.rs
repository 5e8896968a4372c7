//! What the user may ask for.

use std::path::PathBuf;

use clap::Parser;
use graver::runtime::DeviceName;

/// Train a convolutional network on 1,797 handwritten digits.
#[derive(Debug, Parser)]
#[command(name = "digits")]
pub(crate) struct Args {
    /// Passes over the training images.
    #[arg(long, default_value_t = 20)]
    pub(crate) epochs: u32,
    /// Images in a batch: 64 if not given, or what a resumed training has. The last batch of an epoch may be shorter.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) batch: Option<u32>,
    /// The learning rate: 0.01 if not given, or what a resumed training has.
    #[arg(long, value_parser = rate)]
    pub(crate) lr: Option<f64>,
    /// Seeds the parameters and the order of images: 0 if not given, or what a resumed training has.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where it trains: cpu, cuda (the first GPU), cuda:1 (the second), or interp, the interpreter of kernels.
    #[arg(long, default_value_t = DeviceName::Cpu)]
    pub(crate) device: DeviceName,
    /// Threads of the cpu; all of the machine's if not given. Losses do not depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Write a checkpoint into this folder after every epoch.
    #[arg(long, value_name = "DIR")]
    pub(crate) save: Option<PathBuf>,
    /// Go on from the checkpoint in this folder, for `--epochs` more.
    #[arg(long, value_name = "DIR")]
    pub(crate) resume: Option<PathBuf>,
    /// Write every stage of the compiled step into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) dump: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("a learning rate is a number, 0 or more".to_owned()),
    }
}
