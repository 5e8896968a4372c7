//! Which instructions do what on whole vectors: of AVX2 and of AVX-512.

use iced_x86::Code;

use crate::vector::{Binary, Elem, Shift};

/// The instruction of AVX2 and the one of AVX-512.
pub(super) type Codes = [Code; 2];

/// Whether elements have eight bytes.
pub(super) const fn is_double(elem: Elem) -> bool {
    matches!(elem, Elem::F64 | Elem::I64)
}

/// One or the other by the elements' size.
pub(super) const fn sized(elem: Elem, words: Codes, doubles: Codes) -> Codes {
    if is_double(elem) { doubles } else { words }
}

pub(super) const XOR: Codes = [Code::VEX_Vpxor_ymm_ymm_ymmm256, Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32];
pub(super) const XOR_DOUBLE: Codes = [Code::VEX_Vpxor_ymm_ymm_ymmm256, Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64];
pub(super) const AND: Codes = [Code::VEX_Vpand_ymm_ymm_ymmm256, Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32];
pub(super) const AND_DOUBLE: Codes = [Code::VEX_Vpand_ymm_ymm_ymmm256, Code::EVEX_Vpandq_zmm_k1z_zmm_zmmm512b64];
pub(super) const OR: Codes = [Code::VEX_Vpor_ymm_ymm_ymmm256, Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32];
pub(super) const OR_DOUBLE: Codes = [Code::VEX_Vpor_ymm_ymm_ymmm256, Code::EVEX_Vporq_zmm_k1z_zmm_zmmm512b64];
pub(super) const ADD: Codes = [Code::VEX_Vpaddd_ymm_ymm_ymmm256, Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32];
pub(super) const ADD_DOUBLE: Codes = [Code::VEX_Vpaddq_ymm_ymm_ymmm256, Code::EVEX_Vpaddq_zmm_k1z_zmm_zmmm512b64];
pub(super) const SUB: Codes = [Code::VEX_Vpsubd_ymm_ymm_ymmm256, Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32];
pub(super) const SUB_DOUBLE: Codes = [Code::VEX_Vpsubq_ymm_ymm_ymmm256, Code::EVEX_Vpsubq_zmm_k1z_zmm_zmmm512b64];
pub(super) const MUL_WORDS: Codes = [Code::VEX_Vpmulld_ymm_ymm_ymmm256, Code::EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32];
/// The sums of two products of halves of words.
pub(super) const DOT_WORDS: Codes = [Code::VEX_Vpmaddwd_ymm_ymm_ymmm256, Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512];
/// The products of the lower words of doubles.
pub(super) const MUL_WIDE: Codes = [Code::VEX_Vpmuludq_ymm_ymm_ymmm256, Code::EVEX_Vpmuludq_zmm_k1z_zmm_zmmm512b64];
pub(super) const ABS: Codes = [Code::VEX_Vpabsd_ymm_ymmm256, Code::EVEX_Vpabsd_zmm_k1z_zmmm512b32];
pub(super) const MOVE: Codes = [Code::VEX_Vmovups_ymm_ymmm256, Code::EVEX_Vmovups_zmm_k1z_zmmm512];
pub(super) const BROADCAST: Codes = [Code::VEX_Vbroadcastss_ymm_m32, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32];
pub(super) const BROADCAST_DOUBLE: Codes = [Code::VEX_Vbroadcastsd_ymm_m64, Code::EVEX_Vbroadcastsd_zmm_k1z_xmmm64];
/// Of a register's lowest lane.
pub(super) const SPLAT: Codes = [Code::VEX_Vbroadcastss_ymm_xmm, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32];
pub(super) const SPLAT_DOUBLE: Codes = [Code::VEX_Vbroadcastsd_ymm_xmm, Code::EVEX_Vbroadcastsd_zmm_k1z_xmmm64];

/// What is one instruction on two floats.
pub(super) fn float(op: Binary, elem: Elem) -> Option<Codes> {
    let (words, doubles) = match op {
        Binary::Add => (
            [Code::VEX_Vaddps_ymm_ymm_ymmm256, Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er],
            [Code::VEX_Vaddpd_ymm_ymm_ymmm256, Code::EVEX_Vaddpd_zmm_k1z_zmm_zmmm512b64_er],
        ),
        Binary::Sub => (
            [Code::VEX_Vsubps_ymm_ymm_ymmm256, Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er],
            [Code::VEX_Vsubpd_ymm_ymm_ymmm256, Code::EVEX_Vsubpd_zmm_k1z_zmm_zmmm512b64_er],
        ),
        Binary::Mul => (
            [Code::VEX_Vmulps_ymm_ymm_ymmm256, Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er],
            [Code::VEX_Vmulpd_ymm_ymm_ymmm256, Code::EVEX_Vmulpd_zmm_k1z_zmm_zmmm512b64_er],
        ),
        Binary::Div => (
            [Code::VEX_Vdivps_ymm_ymm_ymmm256, Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er],
            [Code::VEX_Vdivpd_ymm_ymm_ymmm256, Code::EVEX_Vdivpd_zmm_k1z_zmm_zmmm512b64_er],
        ),
        // The second where the first is not below it or either is NaN, as is asked for.
        Binary::MinFast => (
            [Code::VEX_Vminps_ymm_ymm_ymmm256, Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae],
            [Code::VEX_Vminpd_ymm_ymm_ymmm256, Code::EVEX_Vminpd_zmm_k1z_zmm_zmmm512b64_sae],
        ),
        Binary::MaxFast => (
            [Code::VEX_Vmaxps_ymm_ymm_ymmm256, Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae],
            [Code::VEX_Vmaxpd_ymm_ymm_ymmm256, Code::EVEX_Vmaxpd_zmm_k1z_zmm_zmmm512b64_sae],
        ),
        Binary::Min
        | Binary::Max
        | Binary::Rem
        | Binary::And
        | Binary::Or
        | Binary::Xor
        | Binary::Shl
        | Binary::Shr
        | Binary::MulHigh
        | Binary::Scale => return None,
    };
    Some(sized(elem, words, doubles))
}

/// What is one instruction on two integers; `None` for AVX2 where only AVX-512 has it.
pub(super) fn int(op: Binary, elem: Elem) -> Option<(Option<Code>, Code)> {
    let both = |words: Codes, doubles: Codes| {
        let [old, new] = sized(elem, words, doubles);
        Some((Some(old), new))
    };
    let double = is_double(elem);
    match op {
        Binary::Add => both(ADD, ADD_DOUBLE),
        Binary::Sub => both(SUB, SUB_DOUBLE),
        Binary::And => both(AND, AND_DOUBLE),
        Binary::Or => both(OR, OR_DOUBLE),
        Binary::Xor => both(XOR, XOR_DOUBLE),
        Binary::Mul if double => Some((None, Code::EVEX_Vpmullq_zmm_k1z_zmm_zmmm512b64)),
        Binary::Mul => both(MUL_WORDS, MUL_WORDS),
        Binary::Min | Binary::MinFast if double => Some((None, Code::EVEX_Vpminsq_zmm_k1z_zmm_zmmm512b64)),
        Binary::Max | Binary::MaxFast if double => Some((None, Code::EVEX_Vpmaxsq_zmm_k1z_zmm_zmmm512b64)),
        Binary::Min | Binary::MinFast if elem == Elem::I32 => {
            Some((Some(Code::VEX_Vpminsd_ymm_ymm_ymmm256), Code::EVEX_Vpminsd_zmm_k1z_zmm_zmmm512b32))
        }
        Binary::Max | Binary::MaxFast if elem == Elem::I32 => {
            Some((Some(Code::VEX_Vpmaxsd_ymm_ymm_ymmm256), Code::EVEX_Vpmaxsd_zmm_k1z_zmm_zmmm512b32))
        }
        Binary::Min | Binary::MinFast => {
            Some((Some(Code::VEX_Vpminud_ymm_ymm_ymmm256), Code::EVEX_Vpminud_zmm_k1z_zmm_zmmm512b32))
        }
        Binary::Max | Binary::MaxFast => {
            Some((Some(Code::VEX_Vpmaxud_ymm_ymm_ymmm256), Code::EVEX_Vpmaxud_zmm_k1z_zmm_zmmm512b32))
        }
        // By an amount a lane: 0, or the sign's fill, where that is not below the width.
        Binary::Shl => both(
            [Code::VEX_Vpsllvd_ymm_ymm_ymmm256, Code::EVEX_Vpsllvd_zmm_k1z_zmm_zmmm512b32],
            [Code::VEX_Vpsllvq_ymm_ymm_ymmm256, Code::EVEX_Vpsllvq_zmm_k1z_zmm_zmmm512b64],
        ),
        Binary::Shr if elem == Elem::I64 => Some((None, Code::EVEX_Vpsravq_zmm_k1z_zmm_zmmm512b64)),
        Binary::Shr if elem == Elem::I32 => {
            Some((Some(Code::VEX_Vpsravd_ymm_ymm_ymmm256), Code::EVEX_Vpsravd_zmm_k1z_zmm_zmmm512b32))
        }
        Binary::Shr => Some((Some(Code::VEX_Vpsrlvd_ymm_ymm_ymmm256), Code::EVEX_Vpsrlvd_zmm_k1z_zmm_zmmm512b32)),
        Binary::Div | Binary::Rem | Binary::MulHigh | Binary::Scale => None,
    }
}

/// A shift by a constant; AVX2 has no arithmetic one of doubles.
pub(super) fn shift(shift: Shift, elem: Elem) -> Codes {
    match shift {
        Shift::Left => sized(
            elem,
            [Code::VEX_Vpslld_ymm_ymm_imm8, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8],
            [Code::VEX_Vpsllq_ymm_ymm_imm8, Code::EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8],
        ),
        Shift::Logical => sized(
            elem,
            [Code::VEX_Vpsrld_ymm_ymm_imm8, Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8],
            [Code::VEX_Vpsrlq_ymm_ymm_imm8, Code::EVEX_Vpsrlq_zmm_k1z_zmmm512b64_imm8],
        ),
        Shift::Arithmetic => sized(
            elem,
            [Code::VEX_Vpsrad_ymm_ymm_imm8, Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8],
            [Code::INVALID, Code::EVEX_Vpsraq_zmm_k1z_zmmm512b64_imm8],
        ),
    }
}

/// `x * y + z` into `x`, and into `z`.
pub(super) fn fused(elem: Elem) -> (Codes, Codes) {
    let into_x = sized(
        elem,
        [Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er],
        [Code::VEX_Vfmadd213pd_ymm_ymm_ymmm256, Code::EVEX_Vfmadd213pd_zmm_k1z_zmm_zmmm512b64_er],
    );
    let into_z = sized(
        elem,
        [Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er],
        [Code::VEX_Vfmadd231pd_ymm_ymm_ymmm256, Code::EVEX_Vfmadd231pd_zmm_k1z_zmm_zmmm512b64_er],
    );
    (into_x, into_z)
}

pub(super) fn sqrt(elem: Elem) -> Codes {
    sized(
        elem,
        [Code::VEX_Vsqrtps_ymm_ymmm256, Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er],
        [Code::VEX_Vsqrtpd_ymm_ymmm256, Code::EVEX_Vsqrtpd_zmm_k1z_zmmm512b64_er],
    )
}

/// To an integer, in the direction of the immediate.
pub(super) fn round(elem: Elem) -> Codes {
    sized(
        elem,
        [Code::VEX_Vroundps_ymm_ymmm256_imm8, Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae],
        [Code::VEX_Vroundpd_ymm_ymmm256_imm8, Code::EVEX_Vrndscalepd_zmm_k1z_zmmm512b64_imm8_sae],
    )
}

/// A comparison of floats, by immediate.
pub(super) fn compare_floats(elem: Elem) -> Codes {
    sized(
        elem,
        [Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae],
        [Code::VEX_Vcmppd_ymm_ymm_ymmm256_imm8, Code::EVEX_Vcmppd_kr_k1_zmm_zmmm512b64_imm8_sae],
    )
}

/// A comparison of integers by immediate, of AVX-512.
pub(super) fn compare_ints(elem: Elem) -> Code {
    match elem {
        Elem::I64 => Code::EVEX_Vpcmpq_kr_k1_zmm_zmmm512b64_imm8,
        Elem::I32 => Code::EVEX_Vpcmpd_kr_k1_zmm_zmmm512b32_imm8,
        Elem::U32 | Elem::U8 | Elem::Bool | Elem::F32 | Elem::F64 => Code::EVEX_Vpcmpud_kr_k1_zmm_zmmm512b32_imm8,
    }
}

/// A choice by lanes: by a register of AVX2 after both operands, or by a mask of AVX-512 that takes the second where it is 1.
pub(super) fn blend(elem: Elem) -> Codes {
    sized(
        elem,
        [Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm, Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32],
        [Code::VEX_Vblendvpd_ymm_ymm_ymmm256_ymm, Code::EVEX_Vblendmpd_zmm_k1z_zmm_zmmm512b64],
    )
}
