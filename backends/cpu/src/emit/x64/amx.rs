//! Tiles of AMX, which no allocator gives out: functions name the eight that there are.

use iced_x86::Code;

use super::operand::{Mem, View};
use super::{Emitter, Wide};
use crate::vector::{Tile, TileDot, Val};

/// How many tiles there are.
const TILES: usize = 8;
/// Lines of a tile, and bytes of a line.
const LINES: u8 = 16;
const LINE: u8 = 64;

/// What sets all tiles up, as large as they are: the first palette, bytes of lines from 16 on, two each, and lines from 48 on.
fn configuration() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 1;
    for tile in 0..TILES {
        bytes[16 + 2 * tile] = LINE;
        bytes[48 + tile] = LINES;
    }
    bytes
}

impl Emitter<'_> {
    pub(super) fn tile(&mut self, tile: &Tile) {
        assert_eq!(self.wide, Wide::V4, "tiles are for machines whose vectors have sixteen lanes");
        match *tile {
            Tile::Configure => {
                let offset = self.asm.pool.add(configuration());
                self.asm.inst(Code::VEX_Ldtilecfg_m512).mem(Mem::pool(offset, false)).done();
            }
            Tile::Release => self.asm.inst(Code::VEX_Tilerelease).done(),
            Tile::Zero(tile) => self.asm.inst(Code::VEX_Tilezero_tmm).tile(tile).done(),
            Tile::Load { tile, ptr, stride } => {
                let lines = self.lines(ptr, stride);
                self.asm.inst(Code::VEX_Tileloadd_tmm_sibmem).tile(tile).mem(lines).done();
            }
            Tile::Store { tile, ptr, stride } => {
                let lines = self.lines(ptr, stride);
                self.asm.inst(Code::VEX_Tilestored_sibmem_tmm).mem(lines).tile(tile).done();
            }
            Tile::Dot { dot, sum, rows, columns } => {
                let code = match dot {
                    TileDot::Bf16 => Code::VEX_Tdpbf16ps_tmm_tmm_tmm,
                    TileDot::Bytes { signed: [true, true] } => Code::VEX_Tdpbssd_tmm_tmm_tmm,
                    TileDot::Bytes { signed: [true, false] } => Code::VEX_Tdpbsud_tmm_tmm_tmm,
                    TileDot::Bytes { signed: [false, true] } => Code::VEX_Tdpbusd_tmm_tmm_tmm,
                    TileDot::Bytes { signed: [false, false] } => Code::VEX_Tdpbuud_tmm_tmm_tmm,
                };
                self.asm.inst(code).tile(sum).tile(rows).tile(columns).done();
            }
        }
    }

    /// A tile's lines in memory, after the loads before them.
    fn lines(&mut self, ptr: Val, stride: Val) -> Mem {
        let (ptr, stride) = (self.one(ptr), self.one(stride));
        self.flush();
        Mem { index: Some((stride, View::R64)), ..Mem::at(ptr) }
    }
}
