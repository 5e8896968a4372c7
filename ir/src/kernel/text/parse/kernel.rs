//! A kernel of every kind.

use super::body::body;
use super::{numbered, word_id};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::kernel::text::print::word;
use crate::kernel::{
    Arg, Attend, AxisSet, Combine, Contract, Index, Kernel, KernelBody, Mode, Nest, Prefix, Product, Reduction, Scatter, Side,
    Softmax, Sort, Stage, Store, Sum, ValueId,
};
use crate::op::{Extreme, ReduceKind, ScatterKind};
use crate::text::value::{Parsed, Parser, Value as _};
use crate::ty::Shape;

pub(super) fn kernel(input: &mut Parser<'_>) -> Parsed<Kernel> {
    let name = input.quoted()?;
    input.mark('(')?;
    let mut args = Vec::new();
    input.list(')', |input| {
        args.push(arg(input, args.len())?);
        Ok(())
    })?;
    let body = if input.eat_word("nest") {
        KernelBody::Nest(nest(input, &args)?)
    } else if input.eat_word("contract") {
        KernelBody::Contract(contract(input, &args)?)
    } else if input.eat_word("scatter") {
        KernelBody::Scatter(scatter(input, &args)?)
    } else if input.eat_word("sort") {
        KernelBody::Sort(sort(input, &args)?)
    } else if input.eat_word("prefix") {
        KernelBody::Prefix(prefix(input, &args)?)
    } else if input.eat_word("attend") {
        KernelBody::Attend(attend(input, &args)?)
    } else {
        return Err(input.expected("`nest`, `contract`, `scatter`, `sort`, `prefix` or `attend`"));
    };
    input.axes.clear();
    Ok(Kernel { name, args, body })
}

/// `read p0: f32[batch, 784] strides [1, batch]`
fn arg(input: &mut Parser<'_>, id: usize) -> Parsed<Arg> {
    let mode = Mode::parse(input)?;
    numbered(input, "p", id)?;
    input.mark(':')?;
    let dtype = DType::parse(input)?;
    let shape = Shape::parse(input)?;
    let strides = if input.eat_word("strides") { Vec::parse(input)? } else { shape.strides() };
    Ok(Arg { dtype, shape: shape.0, strides, mode })
}

/// The axes' sizes, which `a0`, `a1`, .. have from here on.
fn axes(input: &mut Parser<'_>) -> Parsed<Vec<Dim>> {
    let at = input.place();
    let axes = Vec::<Dim>::parse(input)?;
    if axes.len() > AxisSet::MAX {
        return Err(input.fail(at, format!("a kernel has at most {} axes", AxisSet::MAX)));
    }
    input.axes.clone_from(&axes);
    Ok(axes)
}

fn nest(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Nest> {
    let axes = axes(input)?;
    let mut stages = Vec::new();
    input.mark('{')?;
    while !input.eat('}') {
        stages.push(stage(input, args)?);
    }
    Ok(Nest { axes, stages })
}

fn stage(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Stage> {
    input.word("stage")?;
    let over = named_set(input, "over")?;
    let keep = named_set(input, "keep")?;
    input.mark('{')?;
    let body = body(input, args)?;
    let mut reductions = Vec::new();
    while let Some(reduction) = reduction(input)? {
        reductions.push(reduction);
    }
    let stores = stores(input)?;
    input.mark('}')?;
    Ok(Stage { over, keep, body, reductions, stores })
}

fn named_set(input: &mut Parser<'_>, word: &str) -> Parsed<AxisSet> {
    input.word(word)?;
    AxisSet::parse(input)
}

/// `reduce sum(%0): f32`, `arg max(%0): i64`
fn reduction(input: &mut Parser<'_>) -> Parsed<Option<Reduction>> {
    let combine = if input.eat_word("reduce") {
        Combine::Reduce(ReduceKind::parse(input)?)
    } else if input.eat_word("arg") {
        Combine::Arg(Extreme::parse(input)?)
    } else {
        return Ok(None);
    };
    input.mark('(')?;
    let value = ValueId::parse(input)?;
    input.mark(')')?;
    input.mark(':')?;
    Ok(Some(Reduction { combine, value, dtype: DType::parse(input)? }))
}

fn stores(input: &mut Parser<'_>) -> Parsed<Vec<Store>> {
    let mut stores = Vec::new();
    while input.eat_word("store") {
        stores.push(store(input)?);
    }
    Ok(stores)
}

/// `p2[a0, %1] = %3`
fn store(input: &mut Parser<'_>) -> Parsed<Store> {
    let arg = word_id(input, "p", "an argument")? as usize;
    let index = Vec::<Index>::parse(input)?;
    input.mark('=')?;
    Ok(Store { arg, index, value: ValueId::parse(input)? })
}

fn contract(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Contract> {
    let axes = axes(input)?;
    let batch = named_set(input, "batch")?;
    let (m, n, k) = (named_set(input, "m")?, named_set(input, "n")?, named_set(input, "k")?);
    input.word("acc")?;
    let acc = DType::parse(input)?;
    input.mark('{')?;
    let (a, b) = (side(input, "a", args)?, side(input, "b", args)?);
    input.word("epilogue")?;
    input.mark('{')?;
    let epilogue = body(input, args)?;
    let stores = stores(input)?;
    input.mark('}')?;
    input.mark('}')?;
    Ok(Contract { axes, batch, m, n, k, a, b, acc, epilogue, stores })
}

fn side(input: &mut Parser<'_>, name: &str, args: &[Arg]) -> Parsed<Side> {
    input.word("side")?;
    input.word(name)?;
    input.mark('{')?;
    let body = body(input, args)?;
    input.word("yield")?;
    let value = ValueId::parse(input)?;
    input.mark('}')?;
    Ok(Side { body, value })
}

fn scatter(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Scatter> {
    let axes = axes(input)?;
    let free = named_set(input, "free")?;
    input.mark('{')?;
    let body = body(input, args)?;
    let Some(kind) = ScatterKind::ALL.into_iter().find(|kind| input.eat_word(word(*kind))) else {
        return Err(input.expected("`set`, `add`, `mul`, `max` or `min`"));
    };
    let to = store(input)?;
    let when = if input.eat_word("when") { Some(ValueId::parse(input)?) } else { None };
    input.mark('}')?;
    Ok(Scatter { axes, free, body, kind, to, when })
}

fn sort(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Sort> {
    let axes = axes(input)?;
    input.word("along")?;
    let axis = usize::parse(input)?;
    let descending = input.eat_word("descending");
    input.mark('{')?;
    let body = body(input, args)?;
    input.word("place")?;
    let to = store(input)?;
    input.mark('}')?;
    Ok(Sort { axes, axis, descending, body, to })
}

fn prefix(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Prefix> {
    let axes = axes(input)?;
    input.word("along")?;
    let axis = usize::parse(input)?;
    let reverse = input.eat_word("reverse");
    input.mark('{')?;
    let body = body(input, args)?;
    let kind = ReduceKind::parse(input)?;
    let to = store(input)?;
    input.mark('}')?;
    Ok(Prefix { axes, axis, reverse, kind, body, to })
}

fn attend(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Attend> {
    let axes = axes(input)?;
    let batch = named_set(input, "batch")?;
    input.word("rows")?;
    let rows = usize::parse(input)?;
    let columns = named_set(input, "columns")?;
    input.word("acc")?;
    let acc = DType::parse(input)?;
    input.mark('{')?;
    let mut products = Vec::new();
    while input.eat_word("product") {
        products.push(product(input, args)?);
    }
    input.word("weights")?;
    input.mark('{')?;
    let weights = body(input, args)?;
    input.mark('}')?;
    let softmax = if input.eat_word("softmax") { Some(softmax(input)?) } else { None };
    let (mut keep, mut sums, mut across) = (Vec::new(), Vec::new(), Vec::new());
    while input.eat_word("keep") {
        keep.push(Dim::parse(input)?);
    }
    while input.eat_word("sum") {
        sums.push(sum(input, args)?);
    }
    while input.eat_word("across") {
        across.push(sum(input, args)?);
    }
    input.mark('}')?;
    Ok(Attend { axes, batch, rows, columns, products, weights, softmax, keep, sums, across, acc })
}

fn product(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Product> {
    input.word("over")?;
    let k = usize::parse(input)?;
    input.mark('{')?;
    let (rows, columns) = (side(input, "rows", args)?, side(input, "columns", args)?);
    input.mark('}')?;
    Ok(Product { k, rows, columns })
}

fn softmax(input: &mut Parser<'_>) -> Parsed<Softmax> {
    let score = ValueId::parse(input)?;
    let log_sum = if input.eat_word("log") {
        input.word("sum")?;
        Some(store(input)?)
    } else {
        None
    };
    Ok(Softmax { score, log_sum })
}

fn sum(input: &mut Parser<'_>, args: &[Arg]) -> Parsed<Sum> {
    input.word("free")?;
    let free = usize::parse(input)?;
    let to = store(input)?;
    input.mark('{')?;
    let side = side(input, "summed", args)?;
    input.mark('}')?;
    Ok(Sum { free, side, to })
}
