//! Handwritten digits, embedded: a dataset to try things with, without a network.

use std::io::Read;

use flate2::read::GzDecoder;
use graver_ir::Array;

use crate::dataset::InMemory;

/// 8 x 8 images `u8[1, 8, 8]` of pixels from 0 to 16, and labels `i64[]` from 0 to 9.
pub type Digits = InMemory<(Array, Array)>;

const FILE: &[u8] = include_bytes!("../assets/digits.csv.gz");
const PIXELS: usize = 64;

/// The 1797 images of the test part of the UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998,
/// <https://doi.org/10.24432/C50P49>, CC BY 4.0), which scikit-learn's `load_digits` has too, split into 1442 to train on and 355 to test
/// with: of each class, in the order of the file, the fifth of every five is a test image.
///
/// ```
/// use graver_data::{Dataset, digits};
/// let (train, test) = digits();
/// assert_eq!((train.len(), test.len()), (1442, 355));
/// let (image, label) = train.get(0)?;
/// assert_eq!((image.shape(), label.item()?), ([1, 8, 8].as_slice(), 0.0));
/// # Ok::<(), graver_ir::Diag>(())
/// ```
#[must_use]
pub fn digits() -> (Digits, Digits) {
    let mut text = String::new();
    GzDecoder::new(FILE).read_to_string(&mut text).expect("the embedded file is compressed text");
    let (mut train, mut test, mut seen) = (Rows::default(), Rows::default(), [0usize; 10]);
    for line in text.lines() {
        let mut numbers = line.split(',').map(|number| number.parse::<u8>().expect("the embedded file holds bytes"));
        let pixels: Vec<u8> = numbers.by_ref().take(PIXELS).collect();
        let label = numbers.next().expect("the embedded file has 65 columns");
        let count = &mut seen[usize::from(label)];
        if *count % 5 == 4 { &mut test } else { &mut train }.push(&pixels, label);
        *count += 1;
    }
    (train.dataset(), test.dataset())
}

#[derive(Default)]
struct Rows {
    pixels: Vec<u8>,
    labels: Vec<i64>,
}

impl Rows {
    fn push(&mut self, pixels: &[u8], label: u8) {
        self.pixels.extend_from_slice(pixels);
        self.labels.push(i64::from(label));
    }

    fn dataset(self) -> Digits {
        let len = self.labels.len();
        let images = Array::from_vec([len, 1, 8, 8], self.pixels).expect("64 pixels a label");
        let labels = Array::from_vec([len], self.labels).expect("as many as there are");
        InMemory::new((images, labels)).expect("as many images as labels")
    }
}

#[cfg(test)]
mod tests {
    use super::digits;
    use crate::dataset::Dataset;

    #[test]
    fn the_split_is_the_one_that_is_documented() {
        let (train, test) = digits();
        assert_eq!((train.len(), test.len()), (1442, 355));
        let (images, labels) = test.columns();
        let count = |class: i64| labels.as_slice::<i64>().map(|all| all.iter().filter(|label| **label == class).count());
        let counts: Vec<Option<usize>> = (0..10).map(count).collect();
        // Of 178 182 177 183 181 182 181 179 174 180.
        assert_eq!(counts, [35, 36, 35, 36, 36, 36, 36, 35, 34, 36].map(Some));
        assert_eq!(images.as_slice::<u8>().and_then(|pixels| pixels.iter().max()), Some(&16));
    }

    #[test]
    fn the_first_image_is_the_first_line() {
        let (image, label) = digits().0.get(0).expect("there is one");
        assert_eq!(image.as_slice::<u8>().map(|pixels| &pixels[..8]), Some([0, 0, 5, 13, 9, 1, 0, 0].as_slice()));
        assert_eq!(label.as_slice::<i64>(), Some([0].as_slice()));
    }
}
