//! Instruction-set levels: which code is made, and which this machine runs.

use std::fmt;
use std::str::FromStr;

use crate::emit::cranelift::LANES;
use crate::emit::x64::Wide;

/// Which instructions compiled code uses. Results are bit-identical for a level; between levels they differ within their
/// error bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every machine of its architecture has: vectors of 128 bits.
    Baseline,
    /// x86-64-v3: AVX2, FMA, F16C and BMI2, vectors of 256 bits.
    V3,
    /// x86-64-v4: AVX-512 F, BW, DQ and VL too, vectors of 512 bits.
    V4,
}

impl Isa {
    /// Every level, from the least.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::V3, Self::V4];

    /// The highest level that this machine runs.
    #[must_use]
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Baseline)
    }

    /// Whether this machine runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            Self::V3 => has_v3(),
            Self::V4 => has_v3() && has_v4(),
        }
    }

    /// As options and messages call it: `baseline`, `v3`, `v4`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::V3 => "v3",
            Self::V4 => "v4",
        }
    }

    /// 4-byte lanes of a vector.
    pub(crate) const fn lanes(self) -> usize {
        match self.wide() {
            None => LANES,
            Some(wide) => wide.lanes(),
        }
    }

    /// What our own emitter makes code for; `None` is Cranelift's.
    pub(crate) const fn wide(self) -> Option<Wide> {
        match self {
            Self::Baseline => None,
            Self::V3 => Some(Wide::V3),
            Self::V4 => Some(Wide::V4),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|isa| isa.name() == name);
        known.ok_or_else(|| format!("`{name}` is no instruction-set level; there are baseline, v3 and v4"))
    }
}

#[cfg(target_arch = "x86_64")]
fn has_v3() -> bool {
    let floats = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    floats && is_x86_feature_detected!("bmi2")
}

#[cfg(target_arch = "x86_64")]
fn has_v4() -> bool {
    let words = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
    words && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_v3() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_v4() -> bool {
    false
}
