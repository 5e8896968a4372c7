//! How code is made: for which instructions, with what rounding of convolutions, and for how many threads.

use std::fmt;
use std::str::FromStr;

use crate::isa::Isa;

/// How convolutions are computed: what their rounding may be.
///
/// ```
/// use graver_cpu::{Convolutions, Cpu};
/// let cpu = Cpu::new(2).with_convolutions(Convolutions::Winograd2);
/// assert_eq!(cpu.convolutions(), Convolutions::Winograd2);
/// assert_eq!("winograd4".parse(), Ok(Convolutions::Winograd4));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Convolutions {
    /// As sums of products, within the bound of a sum.
    #[default]
    Direct,
    /// Those of 3x3 windows that slide by one, in `f32`, by Winograd's minimal filtering (Lavin and Gray, 2016, "Fast Algorithms for
    /// Convolutional Neural Networks") where that is less work, and so their derivatives: 2x2 results at once, of 16 products instead of 36.
    Winograd2,
    /// As [`Convolutions::Winograd2`], or 4x4 results at once, of 36 products instead of 144, where that is less work still. Less exact.
    Winograd4,
}

impl Convolutions {
    /// Every way, the most exact first.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Winograd2, Self::Winograd4];

    /// As options and messages call it: `direct`, `winograd2`, `winograd4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Winograd2 => "winograd2",
            Self::Winograd4 => "winograd4",
        }
    }
}

impl fmt::Display for Convolutions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Convolutions {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|way| way.name() == name);
        known.ok_or_else(|| format!("`{name}` is no way to compute convolutions; there are direct, winograd2 and winograd4"))
    }
}

/// For what code is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) isa: Isa,
    pub(crate) convolutions: Convolutions,
    /// How many threads work is shared out to; more or fewer may take it. Results do not depend on it.
    pub(crate) threads: usize,
}
