//! Random functions of vector IR, compiled for every level that the machine has, which must agree to the bit: elementwise
//! arithmetic is exact or rounded once, and no sum of floats depends on an order. Where assertions are on, the allocator's
//! result is checked as well.

use std::time::{Duration, Instant};

use graver_ir::{Array, DType, Scalar};
use graver_testkit::Rng;

use super::jit::{Jit, Made};
use crate::isa::Isa;
use crate::vector::{Binary, Builder, Caches, Combine, Compare, Elem, Func, Helper, Load, Op, Pattern, Shift, Unary, Val, Width};

/// Elements of every array: four times as many as points, and some more.
const LENGTH: usize = 264;
const ELEMS: [Elem; 7] = [Elem::F64, Elem::F32, Elem::I64, Elem::I32, Elem::U32, Elem::U8, Elem::Bool];
/// What the arrays hold, inputs and, after them, outputs.
const DTYPES: [DType; 12] = [
    DType::F64,
    DType::F32,
    DType::I64,
    DType::I32,
    DType::U32,
    DType::U8,
    DType::Bool,
    DType::F16,
    DType::BF16,
    DType::I16,
    DType::I8,
    DType::U16,
];

struct Maker {
    b: Builder,
    rng: Rng,
    /// Values that may be used, a lane each.
    values: Vec<Val>,
}

impl Maker {
    fn pick(&mut self, elem: Elem) -> Val {
        let known: Vec<Val> = self.values.iter().copied().filter(|value| self.b.ty(*value).elem == elem).collect();
        if known.is_empty() || self.rng.once_in(8) {
            let number = i32::try_from(self.rng.int(0, 9)).expect("small");
            let number = if matches!(elem, Elem::U32 | Elem::U8 | Elem::Bool) { number } else { number - 4 };
            let value = self.b.number(elem, number);
            return self.b.lanes(value);
        }
        let recent = known.len().saturating_sub(3);
        let of_all = self.rng.once_in(3);
        self.of(if of_all { &known } else { &known[recent..] })
    }

    /// The value that was made last, so that what is computed is seen.
    fn last(&mut self, elem: Elem) -> Val {
        let last = self.values.iter().copied().rfind(|value| self.b.ty(*value).elem == elem);
        last.unwrap_or_else(|| self.pick(elem))
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        *self.rng.pick(choices)
    }

    fn elem(&mut self) -> Elem {
        self.of(&ELEMS)
    }

    /// The address of an argument's element `index`, and of its neighbours.
    fn element(&mut self, arg: usize, index: Val) -> Val {
        let bytes = self.b.int(i64::try_from(DTYPES[arg % DTYPES.len()].size()).expect("few bytes"));
        let (base, offset) = (self.b.op(Op::Arg(arg)), self.b.mul(index, bytes));
        self.b.add(base, offset)
    }

    fn load(&mut self, var: Val) -> Val {
        let arg = self.rng.below(DTYPES.len());
        let (dtype, ptr) = (DTYPES[arg], self.element(arg, var));
        let mask = self.rng.once_in(3).then(|| self.pick(Elem::Bool));
        let size = self.b.int(i64::try_from(dtype.size()).expect("few bytes"));
        let zero = self.b.int(0);
        let pattern = match self.rng.int(0, 4) {
            0 => Pattern::Strided(size),
            4 => {
                let step = self.rng.int(2, 4);
                let step = self.b.int(step);
                let (stride, index) = (self.b.mul(step, size), self.b.mul(step, var));
                let ptr = self.element(arg, index);
                return self.b.load(Load { ptr, dtype, pattern: Pattern::Strided(stride), mask });
            }
            1 => {
                // Every lane reads an element of the first sixteen.
                let start = self.element(arg, zero);
                let (index, fifteen) = (self.pick(Elem::I64), self.b.int(15));
                let index = self.b.and(index, fifteen);
                let offsets = self.b.mul(index, size);
                return self.b.load(Load { ptr: start, dtype, pattern: Pattern::Scattered(offsets), mask });
            }
            _ => Pattern::Contiguous,
        };
        self.b.load(Load { ptr, dtype, pattern, mask })
    }

    fn operation(&mut self, var: Val) -> Val {
        let elem = self.elem();
        let (x, y) = (self.pick(elem), self.pick(elem));
        let (float, truth) = (elem.is_float(), elem == Elem::Bool);
        match self.rng.int(0, 10) {
            0 | 1 => self.load(var),
            2 | 3 if truth => self.binary(&[Binary::And, Binary::Or, Binary::Xor], x, y),
            2 | 3 if float => {
                let ops = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
                self.binary(&[&ops[..], &[Binary::MinFast, Binary::MaxFast]].concat(), x, y)
            }
            2 => self.binary(&[Binary::Add, Binary::Sub, Binary::Mul, Binary::Min, Binary::Max], x, y),
            3 => {
                let ops = [Binary::And, Binary::Or, Binary::Xor, Binary::Div, Binary::Rem, Binary::Shl, Binary::Shr];
                self.binary(&ops, x, y)
            }
            4 => {
                let compares = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge];
                let compare = self.of(&compares);
                self.b.compare(compare, x, y)
            }
            5 => {
                let mask = self.pick(Elem::Bool);
                self.b.select(mask, x, y)
            }
            6 | 7 => {
                let to = self.elem();
                self.b.cast(x, to)
            }
            8 => self.unary(elem, x),
            9 => self.rare(var),
            _ if matches!(elem, Elem::I64 | Elem::I32 | Elem::U32) => {
                let shift = self.of(&[Shift::Left, Shift::Logical, Shift::Arithmetic]);
                let amount = u8::try_from(self.rng.int(0, 31)).expect("small");
                self.b.shift(shift, x, amount)
            }
            _ => self.rare(var),
        }
    }

    fn binary(&mut self, ops: &[Binary], x: Val, y: Val) -> Val {
        let op = self.of(ops);
        self.b.binary(op, x, y)
    }

    fn unary(&mut self, elem: Elem, x: Val) -> Val {
        let floats = [Unary::Neg, Unary::Abs, Unary::Sqrt, Unary::Floor, Unary::Ceil, Unary::Trunc, Unary::Nearest];
        let op = match elem {
            Elem::F64 | Elem::F32 => self.of(&floats),
            Elem::Bool => Unary::Not,
            Elem::I64 | Elem::I32 | Elem::U32 | Elem::U8 => self.of(&[Unary::Neg, Unary::Abs, Unary::Not]),
        };
        self.b.unary(op, x)
    }

    /// What is seldom made: high products, rounding, calls, loops.
    fn rare(&mut self, var: Val) -> Val {
        let x = self.pick(Elem::F32);
        match self.rng.int(0, 4) {
            0 => {
                let (x, y) = (self.pick(Elem::U32), self.pick(Elem::U32));
                self.b.binary(Binary::MulHigh, x, y)
            }
            1 => {
                let dtype = self.of(&[DType::F16, DType::BF16]);
                self.b.op(Op::Round(x, dtype))
            }
            2 => {
                let y = self.pick(Elem::F32);
                self.b.op(Op::Call(Helper::RemF32, vec![x, y]))
            }
            3 => {
                let (mask, value) = (self.pick(Elem::Bool), self.pick(Elem::F32));
                self.b.op(Op::Patch { mask, value, helper: Helper::CosF32, arg: x })
            }
            _ => {
                let elem = self.elem();
                let init = self.pick(elem);
                let (begin, end) = (self.b.int(0), self.rng.int(0, 3));
                let end = self.b.int(end);
                let open = self.b.open_loop(begin, end, 1, vec![init]);
                let (outer, param) = (self.values.len(), open.params[0]);
                self.values.push(param);
                (0..3).for_each(|_| self.push(var));
                let next = self.pick(elem);
                self.values.truncate(outer);
                self.b.close_loop(open, vec![next])[0]
            }
        }
    }

    fn push(&mut self, var: Val) {
        let value = self.operation(var);
        let value = self.b.lanes(value);
        self.values.push(value);
    }

    /// A sweep from `begin`, whose values go to outputs and reductions.
    fn sweep(&mut self, begin: Val, end: Val, results: &mut Vec<Val>) {
        let unroll = self.of(&[1, 2, 4]);
        let open = self.b.open_sweep(begin, end, unroll);
        let var = open.var;
        let (first, lane) = (self.b.lanes(var), self.b.op(Op::Iota));
        let position = self.b.add(first, lane);
        self.values = vec![position];
        for _ in 0..6 {
            let loaded = self.load(var);
            self.values.push(loaded);
        }
        (0..self.rng.int(2, 30)).for_each(|_| self.push(var));
        for (place, dtype) in DTYPES.into_iter().enumerate() {
            let value = self.last(Elem::of(dtype));
            if dtype != DType::Bool && self.rng.once_in(4) {
                let (two, other) = (self.b.int(2), self.pick(Elem::of(dtype)));
                let index = self.b.mul(two, var);
                let ptr = self.element(DTYPES.len() + place, index);
                self.b.store_in_turn(Caches::Kept, ptr, dtype, [value, other]);
                continue;
            }
            let ptr = self.element(DTYPES.len() + place, var);
            let size = self.b.int(i64::try_from(dtype.size()).expect("few bytes"));
            let pattern = if self.rng.once_in(4) { Pattern::Strided(size) } else { Pattern::Contiguous };
            self.b.store(ptr, dtype, pattern, value);
        }
        let folds = (0..self.rng.int(0, 3)).map(|_| self.fold(position)).collect();
        self.values.clear();
        results.extend(self.b.close_sweep(open, folds).into_iter().flat_map(|(value, at)| [Some(value), at]).flatten());
    }

    fn fold(&mut self, position: Val) -> (Combine, Val, Option<Val>) {
        let elem = self.elem();
        let value = self.pick(elem);
        match self.rng.int(0, 4) {
            0 if !elem.is_float() && elem != Elem::Bool => (Combine::Sum, value, None),
            1 if elem != Elem::Bool => (Combine::ArgMax, value, Some(position)),
            2 if elem != Elem::Bool => (Combine::ArgMin, value, Some(position)),
            3 => (Combine::Max, value, None),
            _ => (Combine::Min, value, None),
        }
    }
}

/// A function of two sweeps, one over a known range.
fn random_func(seed: u64) -> Func {
    let mut maker = Maker { b: Builder::new("fuzz"), rng: Rng::named(&format!("vector {seed}")), values: Vec::new() };
    let (begin, end) = (maker.b.op(Op::Begin), maker.b.op(Op::End));
    let mut results = Vec::new();
    maker.sweep(begin, end, &mut results);
    let (first, last) = (maker.rng.int(0, 4), maker.rng.int(4, 60));
    let (first, last) = (maker.b.int(first), maker.b.int(last));
    maker.sweep(first, last, &mut results);
    for (place, result) in results.into_iter().enumerate() {
        let elem = maker.b.ty(result).elem;
        let arg = DTYPES.len() + ELEMS.iter().position(|other| *other == elem).expect("an element type");
        let index = maker.b.int(i64::try_from(LENGTH - 1 - place).expect("small"));
        let ptr = maker.element(arg, index);
        assert_eq!(maker.b.ty(result).width, Width::One, "a result is one element");
        maker.b.store(ptr, elem.dtype(), Pattern::One, result);
    }
    maker.b.finish()
}

/// The outputs of a function at a level.
fn outputs(func: &Func, isa: Isa, seed: u64, points: i64) -> Vec<Vec<u8>> {
    let mut rng = Rng::named(&format!("data {seed}"));
    let mut arrays: Vec<Vec<u8>> = DTYPES.iter().map(|dtype| data(*dtype, &mut rng)).collect();
    arrays.extend(DTYPES.iter().map(|dtype| vec![0; LENGTH * dtype.size()]));
    let pointers: Vec<*mut u8> = arrays.iter_mut().map(|array| array.as_mut_ptr()).collect();
    let mut jit = Jit::new(isa).expect("there is a compiler");
    let function = jit.compile(&Made::of(func.clone(), isa)).expect("it compiles");
    let code = jit.finish().expect("it becomes executable");
    let (mut scratch, mut status) = (vec![0u8; 4096], 0u64);
    // SAFETY: the function reads and writes elements below `LENGTH` of the arrays, and what scratch memory has.
    unsafe { code.entry(function)(pointers.as_ptr(), std::ptr::null(), 0, points, scratch.as_mut_ptr(), &raw mut status) };
    arrays.split_off(DTYPES.len()).into_iter().zip(DTYPES).map(|(bytes, dtype)| canonical(bytes, dtype)).collect()
}

/// Small numbers; also what is not a number, infinite and large.
fn data(dtype: DType, rng: &mut Rng) -> Vec<u8> {
    let value = |rng: &mut Rng| match rng.int(0, 20) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => -3e9,
        3 => 3e9,
        4 => 1e20,
        _ => rng.float(-10.0, 10.0),
    };
    Array::from_fn(DType::F64, [LENGTH], |_| Scalar::float(DType::F64, value(rng))).cast(dtype).bytes().to_vec()
}

/// Every NaN made the same one, and every zero: which of two is given is left open.
fn canonical(bytes: Vec<u8>, dtype: DType) -> Vec<u8> {
    if !dtype.is_float() {
        return bytes;
    }
    let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
    let array = Array::from_bytes(dtype, [LENGTH], &bytes).expect("sizes agree");
    array.to_f64().into_iter().flat_map(|value| canonical(value).to_le_bytes()).collect()
}

#[test]
fn levels_agree_on_random_functions() {
    let levels: Vec<Isa> = Isa::ALL.into_iter().filter(|isa| *isa != Isa::Baseline && isa.is_available()).collect();
    let (start, mut seed) = (Instant::now(), 0);
    while seed < 40 || start.elapsed() < Duration::from_secs(1) {
        let func = random_func(seed);
        let points = [0, 1, 7, 16, 33, 60][usize::try_from(seed % 6).expect("small")];
        let wanted = outputs(&func, Isa::Baseline, seed, points);
        for isa in &levels {
            let got = outputs(&func, *isa, seed, points);
            for ((wanted, got), dtype) in wanted.iter().zip(&got).zip(DTYPES) {
                assert!(wanted == got, "seed {seed}, {isa}, {points} points: {dtype}\n{wanted:?}\n{got:?}\n{func}");
            }
        }
        seed += 1;
    }
}

/// A word that was narrowed without an instruction has the upper half of what it came from.
#[test]
fn high_products_of_single_words_ignore_what_lies_above() {
    let mut maker = Maker { b: Builder::new("high"), rng: Rng::named("high"), values: Vec::new() };
    for place in 0..i64::try_from(LENGTH).expect("small") {
        let index = maker.b.int(place);
        let (from, to) = (maker.element(2, index), maker.element(DTYPES.len() + 4, index));
        let load = Load { ptr: from, dtype: DType::I64, pattern: Pattern::One, mask: None };
        let wide = maker.b.op(Op::Load(load));
        let (x, y) = (maker.b.cast(wide, Elem::U32), maker.b.number(Elem::U32, 0x7d9e_8d57));
        let high = maker.b.binary(Binary::MulHigh, x, y);
        maker.b.store(to, DType::U32, Pattern::One, high);
    }
    let func = maker.b.finish();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        assert_eq!(outputs(&func, isa, 0, 0), outputs(&func, Isa::Baseline, 0, 0), "{isa}");
    }
}
