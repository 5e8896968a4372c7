//! Trains an autoencoder on handwritten digits: 64 pixels through 8 numbers and back. Draws some test images and, below each, what
//! becomes of it, into a picture that any viewer opens.
//!
//! `cargo run --release --example autoencoder -- digits.pgm`

mod model;
#[path = "../say/mod.rs"]
mod say;

use std::path::{Path, PathBuf};
use std::time::Instant;

use graver::data::{Scale, ToF32, Transform, digits};
use graver::prelude::*;

use crate::model::{Autoencoder, PIXELS};
use crate::say::say;

const EPOCHS: u64 = 30;
const BATCH: usize = 64;
fn main() -> Result<(), Error> {
    let picture = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("graver-digits.pgm"), PathBuf::from);
    let [error, grey] = train(EPOCHS, &picture)?;
    say(&format!("mean squared error on {BATCH} test images: {error:.4}; of grey alone: {grey:.4}"));
    say(&format!("images, and below what became of them: {}", picture.display()));
    Ok(())
}

/// Trains and draws: the mean squared error of what was drawn, and that of grey alone.
fn train(epochs: u64, picture: &Path) -> Result<[f64; 2], Error> {
    let (train, test) = digits();
    let (train, test) = (train.transform(ToF32.then(Scale(1.0 / 16.0))), test.transform(ToF32.then(Scale(1.0 / 16.0))));
    let (train, test) = (DataLoader::new(train, BATCH)?.shuffle(0), DataLoader::new(test, BATCH)?);

    let model = Autoencoder::new(&mut Init::seed(0));
    let (mut step, restore) = (model.training(&cpu())?, model.restoring(&cpu())?);

    let start = Instant::now();
    for epoch in 0..epochs {
        let mut loss = 0.0;
        for batch in train.epoch(epoch) {
            let (images, _) = batch?;
            loss = step.run(&images)?.item()?;
        }
        if epoch % 10 == 9 {
            say(&format!("epoch {:2}  mean squared error of the last batch {loss:.4}", epoch + 1));
        }
    }
    say(&format!("trained in {:.1} s", start.elapsed().as_secs_f64()));

    let (images, _) = test.epoch(0).next().expect("there are test images")?;
    let (restored, error) = restore.call_with(step.state(), &images)?;
    draw(picture, &images, &restored)?;
    Ok([error.item()?, variance(&images)])
}

/// The error of the one colour that is closest to all pixels.
fn variance(images: &Array) -> f64 {
    let pixels = images.to_f64();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let grey = mean(&pixels);
    mean(&pixels.iter().map(|pixel| (pixel - grey).powi(2)).collect::<Vec<_>>())
}

/// How many images are drawn beside each other.
const COLUMNS: usize = 16;
/// The side of an image.
const SIDE: usize = 8;
/// Into how many pixels of the picture one of an image is drawn, each way.
const ZOOM: usize = 6;

/// Writes a portable grey map: images in the upper row, what became of them in the lower one.
fn draw(path: &Path, images: &Array, restored: &Array) -> Result<(), Error> {
    let (images, restored) = (images.to_f64(), restored.to_f64());
    let (width, height) = (COLUMNS * SIDE * ZOOM, 2 * SIDE * ZOOM);
    let mut file = format!("P5 {width} {height} 255\n").into_bytes();
    for y in 0..height / ZOOM {
        let row = if y < SIDE { &images } else { &restored };
        let pixel = |x: usize| row[x / SIDE * PIXELS + y % SIDE * SIDE + x % SIDE];
        let line: Vec<u8> = (0..width).map(|x| (255.0 * (1.0 - pixel(x / ZOOM).clamp(0.0, 1.0))) as u8).collect();
        (0..ZOOM).for_each(|_| file.extend(&line));
    }
    std::fs::write(path, file).map_err(|error| Error::new(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_learns_and_draws() -> Result<(), graver::Error> {
        let picture = std::env::temp_dir().join(format!("graver-autoencoder-{}.pgm", std::process::id()));
        let [error, grey] = super::train(3, &picture)?;
        let drawn = std::fs::read(&picture).expect("it was drawn");
        std::fs::remove_file(&picture).expect("it was drawn");
        assert!(error < grey / 2.0, "{error} {grey}");
        assert!(drawn.starts_with(b"P5 768 96 255\n") && drawn.len() == 14 + 768 * 96, "{}", drawn.len());
        Ok(())
    }
}
