//! Functions with a derivative of the user's own.
//!
//! The function is recorded once, with its residuals; the call gives its results alone. The derivative is a function of the operands, the
//! results and the cotangents. A residual that is an operand or a result is taken as it is, so that a derivative of the derivative knows
//! the rule of a result; others are computed by the same operations once more, which become one with the first.

use std::panic::Location;

use graver_ir::op::{Call, Composite};
use graver_ir::{Diag, FuncId, Op, Type, Value};

use super::body::{self, Body, arrange};
use super::build::Hidden;
use super::linear::{Degree, Degrees};
use super::{settle, types_of};
use crate::context::{Failed, Traced, emit, emit_all, give_up, with, wrong};
use crate::grad::{Wrt, pull_back};
use crate::ops::map::like;
use crate::ops::random::key;
use crate::param::{Param, ParamId};
use crate::scope::on_behalf_of;
use crate::state::StateCell;
use crate::tensor::Tensor;
use crate::tree::{Tree, tensors_of};

/// A function whose reverse-mode derivative is the user's own: `forward` gives the value and residuals, `backward` takes the residuals and
/// the value's cotangent and gives the cotangent of `args`, in the form of a gradient with respect to them. What it gives for an integer
/// is not looked at. Where nothing is differentiated, residuals cost nothing.
///
/// What the closures use beside `args` is constant. A program that differentiates with respect to it does not compile, nor does forward
/// mode through the function: the rule says neither. A derivative of the derivative is that of `backward`, and goes on by this rule
/// where a residual is a part of the value.
///
/// ```
/// use graver_trace::{Tensor, custom_vjp, grad, spec, trace};
/// // Rounds, and lets gradients through as if it did not.
/// fn straight_through(x: Tensor) -> Tensor {
///     custom_vjp(x, |x| (x.round(), ()), |(), g| g)
/// }
/// let traced = trace(|x| grad(x, |x| straight_through(x * 4.0).sum(..)), spec::<f32>(["n"]))?;
/// assert_eq!(traced.module().functions.len(), 3);
/// # Ok::<(), graver_trace::Error>(())
/// ```
///
/// # Errors
/// The trace fails, naming the line of this call, if `backward` gives another number or other types of cotangents than `args` have, if
/// state is set inside, or random numbers are drawn by `backward`: draw them in `forward`, and keep them.
#[track_caller]
pub fn custom_vjp<W: Wrt, Y: Tree, R: Tree>(
    args: W,
    forward: impl FnOnce(W::Given) -> (Y, R),
    backward: impl FnOnce(R, Y) -> W::Grad,
) -> Y {
    // What closures here emit shows the line of the call.
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    custom(Composite::Custom, &args, forward, |_, residuals, cotangents| Ok(tensors_of(&backward(residuals, cotangents))))
}

/// A function whose derivative is the user's own, as a rule for forward mode: `forward` gives the value; `tangent` takes the arguments, the
/// value, and tangents in the form of a gradient with respect to `args`, and gives the value's tangents. It must be linear in tangents: reverse
/// mode is its transpose, which is made of it. So it multiplies tangents by what does not depend on them, adds up what it gets, and moves elements:
/// loops, branches, [`jvp`](crate::jvp) and [`grad`](crate::grad) may do that too. A tangent of an integer is 0, and what is given as one is not looked at.
///
/// What the closures use beside `args` is constant, as in [`custom_vjp`]. A derivative of the derivative is that of `tangent`, and goes on by
/// this rule where that uses the value.
///
/// ```
/// use graver_trace::{Tensor, custom_jvp, grad, jvp, spec, trace};
/// // Its derivative is made of the value; the square root's own would be infinite at 0.
/// fn safe_root(x: Tensor) -> Tensor {
///     custom_jvp(x, |x| x.sqrt(), |_, y, dx| dx / (y * 2.0).maximum(1e-6))
/// }
/// let both = |x: Tensor| (grad(x, |x| safe_root(x).sum(..)), jvp(x, &x, safe_root).1);
/// trace(both, spec::<f32>(["n"]))?;
/// # Ok::<(), graver_trace::Error>(())
/// ```
///
/// # Errors
/// The trace fails, naming the line of this call, if `tangent` gives another number or other types of tangents than the value has, is not linear (the
/// operation by which it is not is named, with its line), if state is set inside, or random numbers are drawn by `tangent`.
#[track_caller]
pub fn custom_jvp<W: Wrt, Y: Tree>(
    args: W,
    forward: impl FnOnce(W::Given) -> Y,
    tangent: impl FnOnce(W::Given, Y, W::Grad) -> Y,
) -> Y {
    let _line = on_behalf_of(Location::caller(), crate::SOURCES);
    let copy = |y: &Y| y.with_tensors(&mut tensors_of(y).into_iter());
    let forward = |given| {
        let y = forward(given);
        let residuals = copy(&y);
        (y, residuals)
    };
    custom(Composite::CustomForward, &args, forward, |names, y, cotangents| {
        let given = args.given(&mut names.iter().copied());
        let values = tensors_of(&y);
        transposed(names, &values, &tensors_of(&cotangents), |tangents| {
            tensors_of(&tangent(given, y, args.grad(&mut tangents.iter().copied())))
        })
    })
}

/// The cotangents of operands by a rule from their tangents to those of values, which is linear.
#[track_caller]
fn transposed(
    operands: &[Tensor],
    values: &[Tensor],
    cotangents: &[Tensor],
    rule: impl FnOnce(&[Tensor]) -> Vec<Tensor>,
) -> Traced<Vec<Tensor>> {
    let mut tangents = Vec::new();
    for operand in operands {
        tangents.push(emit(Op::Alias, &[operand.zeros_like()])?);
    }
    let given = rule(&tangents);
    if given.len() != values.len() {
        return wrong(format!("the rule gives {} tangents for {} values", given.len(), values.len()));
    }
    let (mut y, mut g) = (Vec::new(), Vec::new());
    for (place, ((value, given), cotangent)) in values.iter().zip(&given).zip(cotangents).enumerate() {
        let (wanted, ty) = (value.ty()?, given.ty()?);
        if !wanted.dtype.is_float() {
            continue;
        }
        if ty != wanted {
            let message = format!("the rule gives {ty} as the tangent of value {place}, which is {wanted}");
            return Err(Diag::new(message).help("a tangent has its value's type: broadcast, cast").into());
        }
        check_linear(place, *given, &tangents)?;
        y.push(*given);
        g.push(*cotangent);
    }
    let float = |tensor: &Tensor| Ok::<_, Failed>(tensor.ty()?.dtype.is_float());
    let mut wrt = Vec::new();
    for tangent in &tangents {
        if float(tangent)? {
            wrt.push(*tangent);
        }
    }
    let mut pulled = if y.is_empty() || wrt.is_empty() { Vec::new() } else { pull_back(&y, &g, &wrt)? }.into_iter();
    let mut all = Vec::new();
    for tangent in tangents {
        // Of an integer, and of everything where no value is a float, it is zero.
        let found = if float(&tangent)? { pulled.next() } else { None };
        all.push(found.unwrap_or(tangent));
    }
    Ok(all)
}

/// Refuses a value's tangent that is not linear in these, which are names of the function under construction.
fn check_linear(place: usize, given: Tensor, tangents: &[Tensor]) -> Traced<()> {
    with(|trace| {
        let (given, tangents) = (trace.value(given)?, trace.values(tangents)?);
        let function = trace.module.function(trace.frame().func);
        // The tangent of an integer is zero.
        let degree = |tangent: &Value| if function.graph.ty(*tangent).dtype.is_float() { Degree::Linear } else { Degree::Zero };
        let known = tangents.iter().map(|tangent| (*tangent, degree(tangent))).collect();
        let degrees = Degrees::of(&trace.module, function, &known);
        let message = match degrees.get(given) {
            Degree::Zero | Degree::Linear => return Ok(()),
            Degree::Constant => format!("the rule gives a tangent of value {place} that depends on no tangent, and is not zero"),
            Degree::Other => {
                let culprit = degrees.culprit(given).expect("it is not linear");
                let (op, loc) = (function.graph.op(culprit).name(), function.graph.loc(culprit));
                format!("the rule gives a tangent of value {place} that is not linear in tangents: not so is `{op}` at {loc}")
            }
        };
        Err(Diag::new(message).help("multiply tangents by what does not depend on them, and add up").into())
    })
}

/// A call of a function that is recorded here, with the derivative that `rule` gives from names of the operands, residuals and cotangents.
#[track_caller]
fn custom<W: Wrt, Y: Tree, R: Tree>(
    tag: Composite,
    args: &W,
    forward: impl FnOnce(W::Given) -> (Y, R),
    backward: impl FnOnce(&[Tensor], R, Y) -> Traced<Vec<Tensor>>,
) -> Y {
    let name = if tag == Composite::Custom { "custom_vjp" } else { "custom_jvp" };
    let mut leaves = Vec::new();
    args.leaves(&mut leaves);
    let operands: Vec<Tensor> = leaves.iter().map(crate::grad::WrtLeaf::tensor).collect();
    let params: Vec<(usize, ParamId)> =
        leaves.iter().enumerate().filter_map(|(place, leaf)| Some((place, leaf.param()?))).collect();
    let types = match types_of(&operands) {
        Ok(types) => types,
        Err(failed) => give_up(name, failed),
    };
    let bound = |given: &[Tensor]| params.iter().map(|(place, id)| (*id, given[*place])).collect();
    let recorded = body::record("custom", &types, body::KeyAtEnd::Stays, |given| {
        let names = args.given(&mut given.iter().copied());
        let (y, residuals) = Param::bind(bound(given), || forward(names));
        ([tensors_of(&y), tensors_of(&residuals)].concat(), (y, residuals))
    });
    let (built, y) = match recorded {
        Ok(body) => {
            let (y, residuals) = &body.given;
            let function = Recorded::new(&operands, tensors_of(y).len(), &body);
            let rule = |names: &[Tensor], saved: &[Tensor], cotangents: &[Tensor]| {
                let saved = residuals.with_tensors(&mut saved.iter().copied());
                let cotangents = y.with_tensors(&mut cotangents.iter().copied());
                Param::bind(bound(names), || backward(names, saved, cotangents))
            };
            (function.and_then(|function| function.call(tag, rule)), body.given.0)
        }
        Err((failed, (y, _))) => (Err(failed), y),
    };
    let results = settle(name, built, tensors_of(&y).len());
    y.with_tensors(&mut results.into_iter())
}

/// The function as it was recorded, and all that it takes.
struct Recorded {
    func: FuncId,
    params: Vec<Value>,
    /// What it computes: the value, then residuals.
    y: Vec<Value>,
    residuals: Vec<Value>,
    operands: Vec<Tensor>,
    types: Vec<Type>,
    hidden: Hidden,
}

impl Recorded {
    #[track_caller]
    fn new<G>(operands: &[Tensor], count: usize, body: &Body<G>) -> Traced<Self> {
        Ok(Self {
            func: body.func,
            params: body.params.clone(),
            y: body.results[..count].to_vec(),
            residuals: body.results[count..].to_vec(),
            operands: operands.to_vec(),
            types: types_of(operands)?,
            hidden: surroundings(body, Drawn::Once)?,
        })
    }

    /// The call, with the derivative that `rule` gives from names of the operands, residuals and cotangents.
    #[track_caller]
    fn call(
        self,
        tag: Composite,
        rule: impl FnOnce(&[Tensor], &[Tensor], &[Tensor]) -> Traced<Vec<Tensor>>,
    ) -> Traced<Vec<Tensor>> {
        let (y, types) = (self.types_of(&self.y), &self.types);
        let floats: Vec<Type> = y.iter().filter(|ty| ty.dtype.is_float()).cloned().collect();
        let (computed, saved) = self.residual_function();
        let takes = [&types[..], &y, &floats].concat();
        let recorded = body::record("custom_vjp", &takes, body::KeyAtEnd::Stays, |given| {
            let (names, rest) = given.split_at(types.len());
            let (values, cotangents) = rest.split_at(y.len());
            let derived = self.rule((computed, &saved), names, values, cotangents, rule);
            // What went wrong is told once the body is closed.
            (derived.as_ref().cloned().unwrap_or_default(), derived.map(drop))
        });
        let backward = match recorded {
            Ok(backward) => backward,
            Err((failed, derived)) => return derived.and(Err(failed)),
        };
        backward.given.clone()?;
        let hidden = surroundings(&backward, Drawn::Never)?;
        let [first, second] = [&self.hidden, &hidden].map(Hidden::types);
        let (own, rest) = backward.params.split_at(types.len());
        let (ok, unknown) = (
            |values: &[Value]| values.iter().copied().map(Ok).collect::<Vec<_>>(),
            |types: Vec<Type>| types.into_iter().map(Err),
        );
        let mut primal = [ok(&self.params), self.hidden.params.clone()].concat();
        primal.extend(unknown(second?));
        let mut derivative = ok(own);
        derivative.extend(unknown(first?));
        derivative.extend(hidden.params.iter().cloned().chain(ok(rest)));
        with(|trace| {
            arrange(trace, self.func, &primal, &self.y);
            arrange(trace, backward.func, &derivative, &backward.results);
        });
        let op = Call { func: self.func, tag: Some(tag), vjp: Some(backward.func), results: y };
        emit_all(Op::Call(op), &[self.operands, self.hidden.operands, hidden.operands].concat())
    }

    fn types_of(&self, values: &[Value]) -> Vec<Type> {
        with(|trace| values.iter().map(|value| trace.module.function(self.func).graph.ty(*value).clone()).collect())
    }

    /// The function that computes residuals, if any must be, and where each is found.
    fn residual_function(&self) -> (Option<FuncId>, Vec<Saved>) {
        let closed = |value: &Value| self.hidden.params.iter().position(|param| *param == Ok(*value));
        let mut computed: Vec<Value> = Vec::new();
        let mut saved = Vec::new();
        for value in &self.residuals {
            let at = |values: &[Value]| values.iter().position(|known| known == value);
            let place = at(&self.params).map(Saved::Operand).or_else(|| at(&self.y).map(Saved::Result));
            saved.push(place.or_else(|| closed(value).map(Saved::Closed)).unwrap_or(Saved::Computed(computed.len())));
            if matches!(saved.last(), Some(Saved::Computed(_))) {
                computed.push(*value);
            }
        }
        if computed.is_empty() {
            return (None, saved);
        }
        let func = with(|trace| {
            let copy = trace.module.function(self.func).clone();
            let func = trace.module.add(copy);
            trace.module.function_mut(func).name = format!("custom_residuals.{}", func.0);
            let own = self.params.iter().copied().map(Ok);
            arrange(trace, func, &own.chain(self.hidden.params.iter().cloned()).collect::<Vec<_>>(), &computed);
            func
        });
        (Some(func), saved)
    }

    /// The cotangents of float operands, inside of the derivative.
    #[track_caller]
    fn rule(
        &self,
        (computed, saved): (Option<FuncId>, &[Saved]),
        names: &[Tensor],
        values: &[Tensor],
        cotangents: &[Tensor],
        rule: impl FnOnce(&[Tensor], &[Tensor], &[Tensor]) -> Traced<Vec<Tensor>>,
    ) -> Traced<Vec<Tensor>> {
        let computed = match computed {
            Some(func) => {
                let results = with(|trace| trace.module.function(func).result_types());
                let op = Call { func, tag: None, vjp: None, results };
                emit_all(Op::Call(op), &[names, &self.hidden.operands].concat())?
            }
            None => Vec::new(),
        };
        let found = |saved: &Saved| match saved {
            Saved::Operand(place) => names[*place],
            Saved::Result(place) => values[*place],
            Saved::Closed(place) => self.hidden.operands[*place],
            Saved::Computed(place) => computed[*place],
        };
        let saved: Vec<Tensor> = saved.iter().map(found).collect();
        let mut floats = cotangents.iter().copied();
        let mut all = Vec::new();
        for value in values {
            let float = value.ty()?.dtype.is_float();
            all.push(if float { floats.next().expect("a float result has a cotangent") } else { like(*value, 0.0)? });
        }
        self.checked(rule(names, &saved, &all)?)
    }

    fn checked(&self, given: Vec<Tensor>) -> Traced<Vec<Tensor>> {
        if given.len() != self.types.len() {
            return wrong(format!("the derivative gives {} cotangents for {} arguments", given.len(), self.types.len()));
        }
        let floats = self.types.iter().zip(given).enumerate().filter(|(_, (ty, _))| ty.dtype.is_float());
        let mut checked = Vec::new();
        for (place, (wanted, cotangent)) in floats {
            let ty = cotangent.ty()?;
            if ty != *wanted {
                let message = format!("the derivative gives {ty} as the cotangent of argument {place}, which is {wanted}");
                return Err(Diag::new(message)
                    .help("a cotangent has its argument's type: sum over what was broadcast, cast")
                    .into());
            }
            checked.push(cotangent);
        }
        Ok(checked)
    }
}

/// Where a derivative finds a residual.
#[derive(Clone, Copy)]
enum Saved {
    Operand(usize),
    Result(usize),
    /// What the function closes over.
    Closed(usize),
    /// A result of the function that computes residuals.
    Computed(usize),
}

/// Whether a function may draw random numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drawn {
    Once,
    Never,
}

/// What a function takes beside its operands: what it closes over, state that it reads, and the key.
#[track_caller]
fn surroundings<G>(body: &Body<G>, drawn: Drawn) -> Traced<Hidden> {
    let mut hidden = Hidden::default();
    for (outer, param) in &body.met.captured {
        hidden.add(*outer, Some(*param))?;
    }
    for (id, (found, left)) in &body.met.states {
        if left.is_some() {
            return refused(
                "state is set inside of a function with a derivative of its own",
                "give it back, and set it after the call",
            );
        }
        hidden.add(StateCell(*id).get(), *found)?;
    }
    if let Some(param) = body.met.key {
        if drawn == Drawn::Never {
            return refused("random numbers are drawn in a derivative", "draw them in the function, and keep them as residuals");
        }
        hidden.add(key(), Some(param))?;
    }
    Ok(hidden)
}

fn refused<T>(message: &str, help: &str) -> Result<T, Failed> {
    Err(Diag::new(message).help(help).into())
}
