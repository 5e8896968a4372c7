//! A bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How an epoch is going.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    epoch: u32,
    total: usize,
    seen: usize,
    start: Instant,
    spoke: Instant,
}

impl Progress {
    /// An epoch of `total` images.
    pub(crate) fn new(epoch: u32, total: usize) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} images {msg}").expect("a valid template");
            ProgressBar::new(total as u64).with_style(style).with_prefix(format!("epoch {epoch:2}"))
        });
        Self { bar, epoch, total, seen: 0, start: now, spoke: now }
    }

    /// A batch was trained with this loss.
    pub(crate) fn batch(&mut self, images: usize, loss: f64) {
        self.seen += images;
        let said = format!("loss {loss:.4}, {:.0} images/s", self.rate());
        match &self.bar {
            Some(bar) => {
                bar.set_message(said);
                bar.inc(images as u64);
            }
            None if self.spoke.elapsed() >= Duration::from_secs(5) => {
                self.spoke = Instant::now();
                eprintln!("epoch {:2}: {}/{} images, {said}", self.epoch, self.seen, self.total);
            }
            None => {}
        }
    }

    /// Images a second since the epoch began.
    pub(crate) fn rate(&self) -> f64 {
        self.seen as f64 / self.start.elapsed().as_secs_f64()
    }

    /// The epoch is over, with this mean loss.
    pub(crate) fn finish(&self, loss: f64) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => eprintln!("epoch {:2}: {} images, loss {loss:.4}, {:.0} images/s", self.epoch, self.seen, self.rate()),
        }
    }
}
