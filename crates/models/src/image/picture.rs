//! Pictures of 8 bits a colour, as files hold them.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use graver_ir::{Diag, Error};
use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, Limits};

/// The widest and highest picture that is read.
pub(super) const MAX_SIDE: usize = 1 << 16;

/// The most bytes of a picture, in a file or decoded.
pub(super) const MAX_BYTES: usize = 1 << 29;

/// A picture: rows of pixels, top to bottom, each of so many colours of 8 bits.
///
/// ```
/// use graver_models::Picture;
/// let grey = Picture::new([1, 2], 1, vec![0, 255])?;
/// assert_eq!((grey.size(), grey.channels()), ([1, 2], 1));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    /// A picture of height and width, of 1 colour or 3, from `height * width * channels` numbers.
    ///
    /// # Errors
    /// If a size is 0 or beyond any picture, or there are other than so many numbers.
    pub fn new([height, width]: [usize; 2], channels: usize, pixels: Vec<u8>) -> Result<Self, Error> {
        let wrong = |message: String| Err(Diag::new(message).op("picture").into());
        if ![1, 3].contains(&channels) {
            return wrong(format!("pixels have 1 colour or 3, not {channels}"));
        }
        if [height, width].iter().any(|side| *side == 0 || *side > MAX_SIDE) {
            return wrong(format!("{height} x {width} pixels: a side is 1 to {MAX_SIDE}"));
        }
        let count = height * width * channels;
        if pixels.len() != count {
            return wrong(format!("{height} x {width} pixels of {channels} colours are {count} numbers, not {}", pixels.len()));
        }
        Ok(Self { height, width, channels, pixels })
    }

    /// The picture of a PNG or JPEG file, turned as its camera says.
    ///
    /// # Errors
    /// If it cannot be read, is too large, or is none of both.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let wrong = |error: &dyn std::fmt::Display| Error::from(Diag::new(error.to_string()).op(path.display().to_string()));
        let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
        let mut bytes = Vec::new();
        // What a pipe or a device holds, no metadata says.
        let most = u64::try_from(MAX_BYTES).expect("far below 2^64");
        BufReader::new(file).take(most + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        if bytes.len() > MAX_BYTES {
            return Err(wrong(&format!("more bytes than a picture may have ({MAX_BYTES})")));
        }
        Self::decode(&bytes).map_err(|error| wrong(&error))
    }

    /// The picture that the bytes of a PNG or JPEG file hold: three colours, without transparency. Of 16 bits a colour, the upper eight are taken: so
    /// does Pillow, except of grey, whose values above 255 it makes white.
    ///
    /// # Errors
    /// If they are malformed, too large when decoded, or of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let decoded = decode(bytes).map_err(|error| Error::new(format!("no PNG or JPEG picture: {error}")))?;
        let side = |side: u32| usize::try_from(side).expect("a usize has at least 32 bits");
        Self::new([side(decoded.height()), side(decoded.width())], 3, colours(decoded))
    }

    /// Height and width.
    #[must_use]
    pub const fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// The number of colours.
    #[must_use]
    pub const fn channels(&self) -> usize {
        self.channels
    }

    /// The numbers, `height * width * channels` of them.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The middle of the picture, with black around it where it is smaller. As transformers by Pillow: what does not split evenly is more
    /// below and to the right of what is cut out, and above and to the left of what is laid on black.
    #[must_use]
    pub fn center_crop(&self, [height, width]: [usize; 2]) -> Self {
        let mut pixels = vec![0; height * width * self.channels];
        let (rows, columns) = (Overlap::of(self.height, height), Overlap::of(self.width, width));
        for row in 0..rows.length {
            let from = ((rows.from + row) * self.width + columns.from) * self.channels;
            let to = ((rows.to + row) * width + columns.to) * self.channels;
            let length = columns.length * self.channels;
            pixels[to..to + length].copy_from_slice(&self.pixels[from..from + length]);
        }
        Self { height, width, channels: self.channels, pixels }
    }

    /// With as many colours: grey is its own red, green and blue, and colours are grey by their brightness, as in ITU-R BT.601.
    #[must_use]
    pub(super) fn with_channels(&self, channels: usize) -> Self {
        let pixels = match (self.channels, channels) {
            (1, 3) => self.pixels.iter().flat_map(|grey| [*grey; 3]).collect(),
            (3, 1) => self.pixels.chunks_exact(3).map(|rgb| brightness([rgb[0], rgb[1], rgb[2]])).collect(),
            _ => self.pixels.clone(),
        };
        Self { channels, pixels, ..*self }
    }
}

/// Where two lengths with the same middle overlap.
struct Overlap {
    from: usize,
    to: usize,
    length: usize,
}

impl Overlap {
    const fn of(old: usize, new: usize) -> Self {
        if new <= old {
            Self { from: (old - new) / 2, to: 0, length: new }
        } else {
            Self { from: 0, to: (new - old).div_ceil(2), length: old }
        }
    }
}

/// In fixed point, as Pillow.
fn brightness([red, green, blue]: [u8; 3]) -> u8 {
    let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471 + 0x8000;
    u8::try_from(sum >> 16).expect("the weights come to 2^16")
}

/// Red, green and blue of every pixel.
fn colours(picture: DynamicImage) -> Vec<u8> {
    if matches!(picture.color(), ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16) {
        return picture.into_rgb16().into_raw().into_iter().map(|colour| colour.to_be_bytes()[0]).collect();
    }
    picture.into_rgb8().into_raw()
}

fn decode(bytes: &[u8]) -> image::ImageResult<DynamicImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::no_limits();
    let side = u32::try_from(MAX_SIDE).expect("far below 2^32");
    (limits.max_image_width, limits.max_image_height) = (Some(side), Some(side));
    limits.max_alloc = Some(u64::try_from(MAX_BYTES).expect("far below 2^64"));
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}
