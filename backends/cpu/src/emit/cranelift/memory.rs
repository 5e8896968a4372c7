//! Loads and stores: every pattern, every stored type.

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Type, Value, types};
use graver_ir::DType;

use super::{Emitter, LANES, Parts, registers};
use crate::vector::{Elem, Load, Pattern, Store};

/// Unaligned, and it does not trap: addresses were checked or chosen to be readable.
const FLAGS: MemFlagsData = MemFlagsData::new().with_notrap();

impl Emitter<'_, '_> {
    pub(super) fn load(&mut self, load: &Load) -> Parts {
        let ptr = self.one(load.ptr);
        let elem = Elem::of(load.dtype);
        let lanes = match load.pattern {
            Pattern::One => 1,
            Pattern::Contiguous | Pattern::Strided(_) | Pattern::Scattered(_) => self.lanes,
        };
        let mask = load.mask.map(|mask| self.get(mask));
        match (mask, lanes) {
            (None, 1) => {
                let ptr = self.lane_address(ptr, load.pattern, 0);
                Parts::one(self.load_one(ptr, load.dtype))
            }
            (Some(mask), 1) => {
                let ptr = self.lane_address(ptr, load.pattern, 0);
                Parts::one(self.load_one_masked(ptr, load.dtype, mask.single()))
            }
            (None, _) => self.load_vector(ptr, load.dtype, load.pattern),
            (Some(mask), _) => {
                let all = self.b.ins().vall_true(mask.single());
                let (full, part, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
                let ty = super::register(elem, LANES);
                let results: Vec<Value> = (0..registers(elem, LANES)).map(|_| self.b.append_block_param(after, ty)).collect();
                self.b.ins().brif(all, full, &[], part, &[]);
                self.b.switch_to_block(full);
                let loaded = self.load_vector(ptr, load.dtype, load.pattern);
                self.b.ins().jump(after, &super::args(loaded.as_slice()));
                self.b.switch_to_block(part);
                let loaded = self.load_lanes(ptr, load.dtype, load.pattern, Some(mask));
                self.b.ins().jump(after, &super::args(loaded.as_slice()));
                self.b.switch_to_block(after);
                Parts::of(LANES, &results)
            }
        }
    }

    /// Where a lane lies.
    fn lane_address(&mut self, ptr: Value, pattern: Pattern, lane: usize) -> Value {
        match pattern {
            Pattern::One | Pattern::Contiguous => ptr,
            Pattern::Strided(stride) => {
                if lane == 0 {
                    return ptr;
                }
                let stride = self.one(stride);
                let offset = self.b.ins().imul_imm_s(stride, i64::try_from(lane).expect("few lanes"));
                self.b.ins().iadd(ptr, offset)
            }
            Pattern::Scattered(offsets) => {
                let offsets = self.get(offsets);
                let offset = self.extract(offsets, Elem::I64, lane);
                self.b.ins().iadd(ptr, offset)
            }
        }
    }

    fn load_vector(&mut self, ptr: Value, dtype: DType, pattern: Pattern) -> Parts {
        match pattern {
            Pattern::Contiguous => self.load_contiguous(ptr, dtype),
            Pattern::One | Pattern::Strided(_) | Pattern::Scattered(_) => self.load_lanes(ptr, dtype, pattern, None),
        }
    }

    fn load_lanes(&mut self, ptr: Value, dtype: DType, pattern: Pattern, mask: Option<Parts>) -> Parts {
        let size = i64::try_from(dtype.size()).expect("few bytes");
        let mut lanes = Vec::new();
        for lane in 0..LANES {
            let mut address = self.lane_address(ptr, pattern, lane);
            if pattern == Pattern::Contiguous {
                address = self.b.ins().iadd_imm_s(ptr, i64::try_from(lane).expect("few lanes") * size);
            }
            lanes.push(match mask {
                None => self.load_one(address, dtype),
                Some(mask) => {
                    let inside = self.extract(mask, Elem::Bool, lane);
                    self.load_one_masked(address, dtype, inside)
                }
            });
        }
        self.gathered(Elem::of(dtype), &lanes)
    }

    /// Outside, scratch memory is read instead, and the element is 0.
    fn load_one_masked(&mut self, ptr: Value, dtype: DType, inside: Value) -> Value {
        let scratch = self.params[4];
        let ptr = self.b.ins().select(inside, ptr, scratch);
        let loaded = self.load_one(ptr, dtype);
        let zero = self.constant(Elem::of(dtype), 0);
        self.b.ins().select(inside, loaded, zero)
    }

    pub(super) fn load_one(&mut self, ptr: Value, dtype: DType) -> Value {
        let plain = |emitter: &mut Self, ty: Type| emitter.b.ins().load(ty, FLAGS, ptr, 0);
        match dtype {
            DType::F64 => plain(self, types::F64),
            DType::F32 => plain(self, types::F32),
            DType::I64 | DType::U64 => plain(self, types::I64),
            DType::I32 | DType::U32 => plain(self, types::I32),
            DType::U8 => self.b.ins().uload8(types::I32, FLAGS, ptr, 0),
            DType::I8 => self.b.ins().sload8(types::I32, FLAGS, ptr, 0),
            DType::I16 => self.b.ins().sload16(types::I32, FLAGS, ptr, 0),
            DType::U16 => self.b.ins().uload16(types::I32, FLAGS, ptr, 0),
            DType::Bool => plain(self, types::I8),
            DType::F16 => {
                let bits = self.b.ins().uload16(types::I32, FLAGS, ptr, 0);
                self.widened_f16(bits)
            }
            DType::BF16 => {
                let bits = self.b.ins().uload16(types::I32, FLAGS, ptr, 0);
                self.widened_bf16(bits)
            }
        }
    }

    fn load_contiguous(&mut self, ptr: Value, dtype: DType) -> Parts {
        let plain = |emitter: &mut Self, ty: Type, offset: i32| emitter.b.ins().load(ty, FLAGS, ptr, offset);
        match dtype {
            DType::F64 => {
                let low = plain(self, types::F64X2, 0);
                Parts::pair(low, plain(self, types::F64X2, 16))
            }
            DType::I64 | DType::U64 => {
                let low = plain(self, types::I64X2, 0);
                Parts::pair(low, plain(self, types::I64X2, 16))
            }
            DType::F32 => Parts::vector(plain(self, types::F32X4, 0)),
            DType::I32 | DType::U32 => Parts::vector(plain(self, types::I32X4, 0)),
            DType::U8 => {
                let word = plain(self, types::I32, 0);
                Parts::vector(self.words_of_bytes(word))
            }
            DType::I8 => {
                let word = plain(self, types::I32, 0);
                let vector = self.b.ins().scalar_to_vector(types::I32X4, word);
                let vector = self.bits(vector, types::I8X16);
                let halves = self.b.ins().swiden_low(vector);
                Parts::vector(self.b.ins().swiden_low(halves))
            }
            DType::I16 | DType::U16 => {
                let halves = plain(self, types::I64, 0);
                let vector = self.b.ins().scalar_to_vector(types::I64X2, halves);
                let vector = self.bits(vector, types::I16X8);
                let signed = dtype == DType::I16;
                Parts::vector(if signed { self.b.ins().swiden_low(vector) } else { self.b.ins().uwiden_low(vector) })
            }
            DType::Bool => {
                let word = plain(self, types::I32, 0);
                let words = self.words_of_bytes(word);
                // 1 becomes all ones.
                Parts::vector(self.b.ins().ineg(words))
            }
            DType::F16 | DType::BF16 => {
                let halves = plain(self, types::I64, 0);
                let vector = self.b.ins().scalar_to_vector(types::I64X2, halves);
                let vector = self.bits(vector, types::I16X8);
                let words = self.b.ins().uwiden_low(vector);
                Parts::vector(if dtype == DType::F16 { self.widened_f16(words) } else { self.widened_bf16(words) })
            }
        }
    }

    /// Four bytes as four words.
    fn words_of_bytes(&mut self, bytes: Value) -> Value {
        let vector = self.b.ins().scalar_to_vector(types::I32X4, bytes);
        let vector = self.bits(vector, types::I8X16);
        let halves = self.b.ins().uwiden_low(vector);
        self.b.ins().uwiden_low(halves)
    }

    pub(super) fn store(&mut self, store: &Store) {
        let ptr = self.one(store.ptr);
        let value = self.get(store.value);
        if let Some(between) = store.between {
            let between = self.get(between);
            return self.store_in_turn(ptr, store.dtype, [value, between]);
        }
        if value.lanes > 1 && store.pattern == Pattern::Contiguous {
            return self.store_contiguous(ptr, store.dtype, value);
        }
        self.store_at(ptr, store.dtype, store.pattern, value);
    }

    /// Lane by lane.
    fn store_at(&mut self, ptr: Value, dtype: DType, pattern: Pattern, value: Parts) {
        let elem = Elem::of(dtype);
        // 16-bit floats are rounded as a vector before their lanes part.
        let (value, elem, dtype) = match dtype {
            DType::F16 => (self.each(&[value], &mut |emitter, part| emitter.rounded_f16(part[0])), Elem::U32, DType::F16),
            DType::BF16 => (self.each(&[value], &mut |emitter, part| emitter.rounded_bf16(part[0])), Elem::U32, DType::BF16),
            DType::F64 | DType::F32 | DType::Bool => (value, elem, dtype),
            DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U64 | DType::U32 | DType::U16 | DType::U8 => {
                (value, elem, dtype)
            }
        };
        for lane in 0..value.lanes {
            let address = self.lane_address(ptr, pattern, lane);
            let element = self.extract(value, elem, lane);
            self.store_one(address, dtype, element);
        }
    }

    /// The lanes of two values in turn.
    fn store_in_turn(&mut self, ptr: Value, dtype: DType, [x, y]: [Parts; 2]) {
        let size = i64::try_from(dtype.size()).expect("few bytes");
        if x.lanes == 1 {
            for (value, offset) in [(x, 0), (y, size)] {
                let address = self.b.ins().iadd_imm_s(ptr, offset);
                self.store_at(address, dtype, Pattern::One, value);
            }
            return;
        }
        let ty = super::register(Elem::of(dtype), LANES);
        let count = registers(Elem::of(dtype), LANES);
        let mut in_turn = Vec::new();
        for part in 0..count {
            let [x, y] = [x, y].map(|value| self.bits(value.as_slice()[part], types::I8X16));
            for half in [0, 8] {
                // Elements of four bytes or eight.
                let width = if count == 2 { 8 } else { 4 };
                let byte = |place: u8| half + place / (2 * width) * width + place % width + 16 * (place / width % 2);
                let joined = self.shuffle(x, y, std::array::from_fn(|place| byte(u8::try_from(place).expect("16 bytes"))));
                in_turn.push(self.bits(joined, ty));
            }
        }
        for (number, part) in (0..).zip(in_turn.chunks(count)) {
            let address = self.b.ins().iadd_imm_s(ptr, number * i64::try_from(LANES).expect("few lanes") * size);
            let value = Parts::of(LANES, part);
            self.store_contiguous(address, dtype, value);
        }
    }

    /// One element, of which 16-bit floats are bits.
    fn store_one(&mut self, ptr: Value, dtype: DType, element: Value) {
        match dtype {
            DType::F64 | DType::F32 | DType::I64 | DType::I32 | DType::U64 | DType::U32 | DType::Bool => {
                self.b.ins().store(FLAGS, element, ptr, 0)
            }
            DType::I8 | DType::U8 => self.b.ins().istore8(FLAGS, element, ptr, 0),
            DType::I16 | DType::U16 | DType::F16 | DType::BF16 => self.b.ins().istore16(FLAGS, element, ptr, 0),
        };
    }

    fn store_contiguous(&mut self, ptr: Value, dtype: DType, value: Parts) {
        match dtype {
            DType::F64 | DType::I64 | DType::U64 => {
                self.b.ins().store(FLAGS, value.values[0], ptr, 0);
                self.b.ins().store(FLAGS, value.values[1], ptr, 16);
            }
            DType::F32 | DType::I32 | DType::U32 => {
                self.b.ins().store(FLAGS, value.single(), ptr, 0);
            }
            DType::U8 => self.store_bytes(ptr, value.single()),
            DType::I8 => {
                let low = self.constant_in(Elem::U32, LANES, 0xff);
                let bytes = self.b.ins().band(value.single(), low);
                self.store_bytes(ptr, bytes);
            }
            DType::I16 | DType::U16 => {
                let low = self.constant_in(Elem::U32, LANES, 0xffff);
                let words = self.b.ins().band(value.single(), low);
                self.store_halves(ptr, words);
            }
            DType::Bool => {
                let one = self.constant_in(Elem::U32, LANES, 1);
                let bytes = self.b.ins().band(value.single(), one);
                self.store_bytes(ptr, bytes);
            }
            DType::F16 | DType::BF16 => {
                let words =
                    if dtype == DType::F16 { self.rounded_f16(value.single()) } else { self.rounded_bf16(value.single()) };
                self.store_halves(ptr, words);
            }
        }
    }

    /// The low halves of four words, which are below 65,536.
    fn store_halves(&mut self, ptr: Value, words: Value) {
        let halves = self.b.ins().unarrow(words, words);
        let vector = self.bits(halves, types::I64X2);
        let low = self.b.ins().extractlane(vector, 0);
        self.b.ins().store(FLAGS, low, ptr, 0);
    }

    /// The low bytes of four words, which are below 256.
    fn store_bytes(&mut self, ptr: Value, words: Value) {
        let halves = self.b.ins().snarrow(words, words);
        let bytes = self.b.ins().unarrow(halves, halves);
        let vector = self.bits(bytes, types::I32X4);
        let low = self.b.ins().extractlane(vector, 0);
        self.b.ins().store(FLAGS, low, ptr, 0);
    }
}
