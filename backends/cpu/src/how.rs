//! How code is made and run: for which instructions, with what rounding of convolutions, with or without denormals, and for how many threads.

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

/// What becomes of numbers nearer to 0 than the least normal one, 2^-126 of `f32` and 2^-1022 of `f64`, which some processors take a hundred times
/// as long for as for others.
///
/// ```
/// use graver_cpu::{Cpu, Denormals};
/// let cpu = Cpu::new(2).with_denormals(Denormals::Flushed)?;
/// assert_eq!(cpu.denormals(), Denormals::Flushed);
/// assert_eq!("kept".parse(), Ok(Denormals::Kept));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Denormals {
    /// They are numbers as others are.
    #[default]
    Kept,
    /// Arithmetic takes zeros for them, and gives zeros where results would be denormal, of the same sign (FTZ and DAZ of x86-64, FZ of aarch64).
    /// What moves elements moves their bits. The mode is that of compiled code alone: no thread is left in it.
    Flushed,
}

impl Denormals {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kept, Self::Flushed];

    /// Whether processors of this architecture can.
    #[must_use]
    pub const fn is_available(self) -> bool {
        match self {
            Self::Kept => true,
            Self::Flushed => cfg!(any(target_arch = "x86_64", target_arch = "aarch64")),
        }
    }

    /// As options and messages call it: `kept`, `flushed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Flushed => "flushed",
        }
    }
}

impl fmt::Display for Denormals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Denormals {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|denormals| denormals.name() == name);
        known.ok_or_else(|| format!("`{name}` is nothing that becomes of denormals; they are kept or flushed"))
    }
}

/// Instructions that sum up products of narrow elements, beyond those of an [`Isa`].
///
/// Sums of whole numbers are the same by all of them. Those of `bf16` differ within their error bounds: [`Dots::Bf16`] and [`Dots::Amx`] take denormals for zeros.
///
/// ```
/// use graver_cpu::{Cpu, Dots, Isa};
/// let cpu = Cpu::new(2).with_isa(Isa::Baseline)?;
/// assert_eq!(cpu.dots(), Dots::Plain);
/// assert_eq!("vnni".parse(), Ok(Dots::Vnni));
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dots {
    /// Those of the level.
    Plain,
    /// Of [`Isa::V4`]: AVX-512 VNNI.
    Vnni,
    /// Of [`Isa::V4`]: AVX-512 VNNI and BF16.
    Bf16,
    /// Of [`Isa::V4`]: AVX-512 VNNI, and AMX with BF16 and INT8. Linux is asked for the registers of tiles when code that needs them is first
    /// made; signal stacks that are too small for them are an error from then on. If it does not give them, products are those of
    /// [`Dots::Vnni`].
    Amx,
}

impl Dots {
    /// Every set, from the least.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Vnni, Self::Bf16, Self::Amx];

    /// The set that is fastest on this machine with code of a level.
    #[must_use]
    pub fn detect(isa: Isa) -> Self {
        let best = Self::ALL.into_iter().rev().find(|dots| dots.is_available(isa) && (*dots != Self::Bf16 || has_fast_bf16()));
        best.unwrap_or(Self::Plain)
    }

    /// Whether this machine runs it with code of a level.
    #[must_use]
    pub fn is_available(self, isa: Isa) -> bool {
        match self {
            Self::Plain => true,
            Self::Vnni => isa == Isa::V4 && has_vnni(),
            Self::Bf16 => isa == Isa::V4 && has_vnni() && has_bf16(),
            Self::Amx => isa == Isa::V4 && has_vnni() && amx::is_there(),
        }
    }

    /// As options and messages call it: `plain`, `vnni`, `bf16`, `amx`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Vnni => "vnni",
            Self::Bf16 => "bf16",
            Self::Amx => "amx",
        }
    }

    /// Whether code may use tiles, for which this asks.
    pub(crate) fn may_use_tiles(self) -> bool {
        self == Self::Amx && amx::is_granted()
    }
}

impl fmt::Display for Dots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dots {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|dots| dots.name() == name);
        known.ok_or_else(|| format!("`{name}` is no set of dot-product instructions; there are plain, vnni, bf16 and amx"))
    }
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(target_arch = "x86_64")]
fn has_bf16() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether two products of `bf16` take less than two of `f32`: on processors of AMD they do. On an Emerald Rapids of Intel they take twice
/// as long (30 and 60 billion products a second, measured).
#[cfg(target_arch = "x86_64")]
fn has_fast_bf16() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_vnni() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_bf16() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
const fn has_fast_bf16() -> bool {
    false
}

/// AMX: whether the machine has it, and Linux lets this process use it, which is asked once.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    /// `arch_prctl` with this tells which parts of the processor's state there are.
    const ARCH_GET_XCOMP_SUPP: libc::c_long = 0x1021;
    /// `arch_prctl` with this asks for a part of the processor's state, for good.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    /// The data of tiles.
    const XFEATURE_XTILEDATA: libc::c_long = 18;

    pub(super) fn is_there() -> bool {
        let (bf16, tile, int8) = (1 << 22, 1 << 24, 1 << 25);
        let mut supported: u64 = 0;
        // SAFETY: the call writes what Linux knows of the processor's state to the number.
        let told = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &raw mut supported) } == 0;
        let has = __cpuid_count(7, 0).edx & (bf16 | tile | int8) == bf16 | tile | int8;
        has && told && supported >> XFEATURE_XTILEDATA & 1 == 1
    }

    pub(super) fn is_granted() -> bool {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        // SAFETY: the call changes what this process may use, and no memory.
        let ask = || unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0;
        *GRANTED.get_or_init(ask)
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod amx {
    pub(super) const fn is_there() -> bool {
        false
    }

    pub(super) const fn is_granted() -> bool {
        false
    }
}

/// For what code is made, and how it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) isa: Isa,
    pub(crate) dots: Dots,
    pub(crate) convolutions: Convolutions,
    /// Of the mode that code runs in; the code is the same.
    pub(crate) denormals: Denormals,
    /// How many threads work is shared out to; more or fewer may take it. Results do not depend on it.
    pub(crate) threads: usize,
}
