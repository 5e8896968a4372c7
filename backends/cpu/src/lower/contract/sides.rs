//! Which side of a contraction gives the rows of tiles and which the columns, and along which axes both are numbered: the
//! arrangement that moves elements with the least work. Sums have another order of `k` in another arrangement; which one it
//! is depends on the kernel and the lanes alone.

use graver_ir::kernel::{AxisSet, Body, Bounds, Contract, Index, InstKind, Side, ValueId};
use graver_ir::{DType, Dim};

use super::super::cx::Cx;
pub(super) use super::super::index::slope;
use super::flat::is_flat;
use super::words::Words;
use crate::vector::{Elem, TABLE_LANES};

/// The work of an element that a lane reaches on its own, by a gather or a scatter; that of a contiguous vector's is 1.
const ALONE: i64 = 8;
/// The same of an element that is transposed in registers.
const TRANSPOSED: i64 = 3;

/// A side and its own axes, in the order in which the result's rows or columns are numbered.
#[derive(Clone)]
pub(super) struct Operand<'a> {
    pub(super) side: &'a Side,
    pub(super) axes: Vec<usize>,
    /// Whether it is packed along the last of its own axes, rather than along the last of `k`.
    pub(super) along_own: bool,
    /// The value of the side's body that is packed, and the type in which it is.
    pub(super) packed: (ValueId, DType),
}

impl<'a> Operand<'a> {
    /// A side that is packed as it is computed with.
    pub(super) fn new(side: &'a Side, axes: Vec<usize>, along_own: bool, elem: Elem) -> Self {
        Self { side, axes, along_own, packed: (side.value, elem.dtype()) }
    }

    /// Packed in the narrower type that elements have been widened from, if they have: what is packed once and read often is
    /// bytes to be read.
    fn narrowed(self) -> Self {
        if !matches!(self.packed.1, DType::F32 | DType::I32) {
            return self;
        }
        let inst = |value: ValueId| &self.side.body.insts[value.index()];
        let (mut value, mut whole) = (self.side.value, false);
        loop {
            let dtype = inst(value).dtype;
            let exact = match dtype {
                DType::I8 | DType::U8 | DType::I16 | DType::U16 => true,
                // Not where a whole number has been made of it.
                DType::BF16 | DType::F16 => !whole,
                DType::F64 | DType::F32 | DType::I64 | DType::I32 | DType::U64 | DType::U32 | DType::Bool => false,
            };
            if exact {
                return Self { packed: (value, dtype), ..self };
            }
            whole |= dtype == DType::I32;
            value = match inst(value).kind {
                // Narrow integers are computed with in 32 bits, which floats of 32 bits are made of.
                InstKind::Cast(from) if matches!(dtype, DType::F32 | DType::I32) => from,
                InstKind::Cast(_) | InstKind::Const(_) | InstKind::Index(_) | InstKind::Load(_) | InstKind::Map(..) => {
                    return self;
                }
                InstKind::Bitcast(_) | InstKind::Reduced { .. } | InstKind::Acc => return self,
                InstKind::Check { .. } | InstKind::Philox { .. } => return self,
            };
        }
    }

    /// What is read along the last of `k` and packed along the own axis, as squares that are transposed in registers: plain loads of 4-byte
    /// elements at places that are as far apart in every row.
    pub(super) fn across(&self, cx: &Cx<'_>, k: usize) -> Option<Across> {
        let ([inst], [own]) = (self.side.body.insts.as_slice(), self.axes.as_slice()) else { return None };
        let InstKind::Load(access) = &inst.kind else { return None };
        if cx.lanes != TABLE_LANES || self.packed.1 != DType::F32 || inst.dtype != DType::F32 || access.bounds != Bounds::Proven {
            return None;
        }
        let along = |axis: usize| slope(cx, access.arg, &access.index, axis);
        let stride = along(*own).filter(|_| along(k).is_some_and(|slope| slope.is(1)))?;
        let offset = access.index.iter().zip(&cx.arg(access.arg).strides).map(|(index, stride)| index.dim() * stride).sum();
        Some(Across { arg: access.arg, offset, stride })
    }

    /// Whether what is packed is kept: it is made of what lasts.
    pub(super) fn is_kept(&self, lasting: &[bool]) -> bool {
        self.side.body.loads().all(|(_, access)| lasting[access.arg])
    }

    /// Bytes of a packed element.
    pub(super) fn bytes(&self) -> i64 {
        i64::try_from(self.packed.1.size()).expect("few bytes")
    }
}

/// An argument that lies across: where an element is, and how far it is to the one in the next row or column.
pub(super) struct Across {
    pub(super) arg: usize,
    pub(super) offset: Dim,
    pub(super) stride: Dim,
}

/// Who is what.
pub(super) struct Sides<'a> {
    /// The side whose elements are broadcast.
    pub(super) rows: Operand<'a>,
    /// The side whose elements go over lanes.
    pub(super) columns: Operand<'a>,
    /// The order of summation: the innermost last.
    pub(super) k: Vec<usize>,
}

impl<'a> Sides<'a> {
    /// The best of all arrangements; of equal ones that which keeps the contraction's own order.
    pub(super) fn best(cx: &Cx<'_>, contract: &'a Contract, elem: Elem, lasting: &[bool]) -> Self {
        let words = Words::of(cx, elem, &contract.a, &contract.b);
        let costs = Costs { cx, contract, elem, lasting, words };
        let (a, b) = ((&contract.a, contract.m), (&contract.b, contract.n));
        let mut best: Option<(i64, Self)> = None;
        for (rows, columns) in [(a, b), (b, a)] {
            for k in endings(contract.k) {
                for axes in endings(columns.1) {
                    let (rows, row_work) = costs.rows(rows, &k);
                    let (columns, column_work) = costs.columns(columns.0, axes, &k);
                    let work = row_work.saturating_add(column_work).saturating_add(costs.results(&columns));
                    if best.as_ref().is_none_or(|(least, _)| work < *least) {
                        best = Some((work, Self { rows, columns, k: k.clone() }));
                    }
                }
            }
        }
        best.expect("a tiled contraction has axes of each role").1
    }
}

/// The axes of a set in every order that moves one of them to the end, their own order first.
fn endings(set: AxisSet) -> Vec<Vec<usize>> {
    let last = |last: usize| set.iter().filter(|axis| *axis != last).chain([last]).collect();
    let mut axes: Vec<usize> = set.iter().collect();
    axes.reverse();
    axes.into_iter().map(last).collect()
}

/// Work by the number of elements, each weighed by how it is reached.
struct Costs<'a, 'c> {
    cx: &'c Cx<'c>,
    contract: &'a Contract,
    elem: Elem,
    /// By argument: whether what is packed of it is kept.
    lasting: &'c [bool],
    words: Option<Words>,
}

impl<'a> Costs<'a, '_> {
    fn count(&self, axes: impl Iterator<Item = usize>) -> i64 {
        axes.map(|axis| self.contract.axes[axis].nominal()).fold(1, i64::saturating_mul)
    }

    /// The rows, packed along whichever axis is best: panels are stored as they are read.
    fn rows(&self, (side, own): (&'a Side, AxisSet), k: &[usize]) -> (Operand<'a>, i64) {
        let (axes, along_own) = endings(own)
            .into_iter()
            .map(|axes| (self.loads(&side.body, *axes.last().expect("a set that ends has an axis")), axes))
            .min_by_key(|(work, _)| *work)
            .map(|(work, axes)| (axes, work))
            .expect("a tiled contraction has rows");
        let along_k = self.loads(&side.body, *k.last().expect("tiles sum over some axis"));
        // What is packed next to each other is turned for tiles of AMX.
        let turned = if matches!(self.words, Some(Words::Tiles(_))) { self.vector() * TRANSPOSED } else { 0 };
        let along_own = along_own.saturating_add(turned);
        let elements = self.count(own.iter()).saturating_mul(self.count(k.iter().copied()));
        let operand = Operand::new(side, axes, along_own < along_k, self.elem);
        (operand, elements.saturating_mul(along_own.min(along_k)))
    }

    /// The columns, numbered in this order: along `k`, elements are transposed, or every one is stored on its own. What is kept costs nothing.
    fn columns(&self, side: &'a Side, axes: Vec<usize>, k: &[usize]) -> (Operand<'a>, i64) {
        let along_own = self.loads(&side.body, *axes.last().expect("a set that ends has an axis")).saturating_add(self.vector());
        let last = *k.last().expect("tiles sum over some axis");
        let turned = self.words.is_some() && self.cx.lanes == TABLE_LANES;
        let transposed = turned || Operand::new(side, axes.clone(), false, self.elem).across(self.cx, last).is_some();
        let stored = if transposed { TRANSPOSED } else { ALONE };
        let along_k = self.loads(&side.body, last).saturating_add(self.vector() * stored);
        let elements = self.count(axes.iter().copied()).saturating_mul(self.count(k.iter().copied()));
        let operand = Operand::new(side, axes, along_own <= along_k, self.elem);
        if operand.is_kept(self.lasting) {
            (operand.narrowed(), 0)
        } else {
            (operand, elements.saturating_mul(along_own.min(along_k)))
        }
    }

    /// The epilogue's loads and stores, over the columns.
    fn results(&self, columns: &Operand<'_>) -> i64 {
        let axis = *columns.axes.last().expect("an operand has axes");
        let Contract { epilogue, stores, axes, .. } = self.contract;
        let runs = if is_flat(self.cx, axes, &columns.axes, epilogue, stores) { &columns.axes } else { &vec![axis] };
        let run = self.count(runs.iter().copied());
        let stores = stores.iter().map(|store| self.access(store.arg, &store.index, (axis, run))).sum::<i64>();
        let loads = epilogue.loads().map(|(_, access)| self.access(access.arg, &access.index, (axis, run))).sum::<i64>();
        let each = loads.saturating_add(stores);
        let results = self.contract.batch.union(self.contract.m).union(self.contract.n);
        let own = results.minus(self.contract.batch);
        // Lanes that are alone touch a page each, while the tiles wait.
        self.count(own.iter()).saturating_mul(each).saturating_mul(2)
    }

    /// The work of a body's loads at an element, while this axis is over lanes.
    fn loads(&self, body: &Body, axis: usize) -> i64 {
        let run = self.contract.axes[axis].nominal();
        body.loads().map(|(_, access)| self.access(access.arg, &access.index, (axis, run))).sum()
    }

    /// The work of a contiguous element: a lane's.
    fn vector(&self) -> i64 {
        i64::try_from(self.cx.lanes).expect("few lanes")
    }

    /// The work of an access along an axis, in lanes of a vector: a short run leaves some unused.
    fn access(&self, arg: usize, index: &[Index], (axis, run): (usize, i64)) -> i64 {
        let lanes = self.vector();
        let used = run.clamp(1, lanes);
        match slope(self.cx, arg, index, axis) {
            Some(slope) if slope.is(0) || slope.is(1) => lanes * lanes / used,
            Some(_) | None => lanes * ALONE,
        }
    }
}
