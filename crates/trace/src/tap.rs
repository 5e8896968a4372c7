//! Named values that a caller can read after a call.
//!
//! A tap is remembered beside the program and is no part of it, so a program with taps compiles to what it would be without. Only the
//! first call that asks for them compiles the program again, with tapped values among its results. A value of a scan's iteration comes
//! as the stack of all iterations' values, along a new first axis. A value of a body that may run any number of times, or not at all, is
//! refused when it is read.
//!
//! What flows back to a tapped value is a derivative with respect to another name of it, which the same transform gives: the reverse pass
//! that is there already meets that name on its way. In a body it is a derivative with respect to what the body is given to add to the value.

mod gradient;

use std::collections::BTreeMap;

use graver_ir::op::stack_of;
use graver_ir::{Array, Diag, Error, FuncId, Loc, Module, NodeId, Op, Sink, Value};

use crate::context::with;
use crate::tensor::Tensor;

/// A value with a name.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    /// After the module's path.
    name: String,
    func: FuncId,
    value: Value,
    loc: Loc,
}

impl Tensor {
    /// Names this value, so that a caller can read it: see [`Compiled::call_tapped`](crate::Compiled::call_tapped) and
    /// [`Step::run_tapped`](crate::Step::run_tapped). Gives the same tensor. Costs nothing in calls that do not ask for it.
    ///
    /// Inside of a module the name follows the module's path, `encoder.0.scores`; a name that is taken gets a number, `scores.2`. In the
    /// body of a [`scan`](crate::scan) or of [`vmap`](crate::vmap) the value is that of all iterations, stacked along a new first axis.
    /// Inside of what is differentiated it is the value that the forward pass computes, and [`Taps::gradient`] is what flows back to it.
    /// In the body of a `while` or of a branch a value may be computed any number of times, and one inside of a function with a derivative
    /// of its own belongs to that: they are refused when they are read.
    ///
    /// ```
    /// use graver_trace::{spec, trace};
    /// let traced = trace(|x| (x * 2.0).tap("twice").relu().sum(..), spec::<f32>(["n"]))?;
    /// assert_eq!(traced.tap_names().collect::<Vec<_>>(), ["twice"]);
    /// # Ok::<(), graver_trace::Error>(())
    /// ```
    #[must_use]
    #[track_caller]
    pub fn tap(self, name: &str) -> Self {
        let line = std::panic::Location::caller();
        with(|trace| {
            // What is poisoned has no value; the cause is recorded already.
            if let Some((func, value)) = trace.whereabouts(self) {
                let path = trace.scope_path();
                let whole = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                let name = trace.free_tap_name(whole);
                let loc = trace.loc(line);
                trace.taps.push(Tap { name, func, value, loc });
            }
        });
        self
    }
}

impl Tap {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The values that [`Tensor::tap`] named, as one call computed them.
#[derive(Clone, Debug)]
pub struct Taps {
    /// In the order in which they were named.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    value: Result<Array, Diag>,
    gradient: Result<Array, Diag>,
}

impl Taps {
    /// The value of this name.
    ///
    /// # Errors
    /// If there is no such name (all that there are), or its value cannot be read (its line, and why).
    pub fn get(&self, name: &str) -> Result<&Array, Error> {
        self.entry(name)?.value.as_ref().map_err(|diag| diag.clone().into())
    }

    /// The derivative of what is differentiated with respect to the value of this name: the cotangent that reaches it. Where derivatives
    /// nest, that of the innermost. In the body of a scan that is differentiated as a whole it is that of every iteration, stacked as the values are.
    ///
    /// # Errors
    /// If there is no such name (all that there are), or no derivative passes through the value (its line): it is computed outside of what is
    /// differentiated, does not depend on what that is differentiated by, or belongs to a `while`, a branch, or a function with a derivative of its own.
    pub fn gradient(&self, name: &str) -> Result<&Array, Error> {
        self.entry(name)?.gradient.as_ref().map_err(|diag| diag.clone().into())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            Error::new(format!("no value is tapped as `{name}`; there are: {}", known.join(", ")))
        })
    }

    /// Names and values, in the order in which they were named; of those that can be read.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.entries.iter().filter_map(|entry| Some((entry.name.as_str(), entry.value.as_ref().ok()?)))
    }
}

/// A program that gives tapped values after its own results.
#[derive(Debug)]
pub(crate) struct Exposed {
    pub(crate) module: Module,
    names: Vec<String>,
    /// Of every tap's value, and then of every tap's gradient: why it is refused.
    refused: Vec<Option<Diag>>,
}

impl Exposed {
    /// The taps' values from what is left of a call's results.
    pub(crate) fn taps(&self, mut results: impl Iterator<Item = Array>) -> Taps {
        let one = |refused: &Option<Diag>| match refused {
            Some(diag) => Err(diag.clone()),
            None => Ok(results.next().expect("a tap that is not refused is a result")),
        };
        let mut values: Vec<Result<Array, Diag>> = self.refused.iter().map(one).collect();
        let gradients = values.split_off(self.names.len());
        let entry = |((name, value), gradient): ((&String, _), _)| Entry { name: name.clone(), value, gradient };
        Taps { entries: self.names.iter().zip(values).zip(gradients).map(entry).collect() }
    }
}

/// Makes tapped values, and then what flows back to them, results of the program, after its own.
pub(crate) fn expose(module: &Module, taps: &[Tap]) -> Exposed {
    let mut module = module.clone();
    let entry = module.entry().expect("a traced module has an entry").0;
    let (taps, gradients) = gradient::differentiated(&mut module, taps);
    let refusal = |tap: &Tap, why: &str| Diag::new(why).op(format!("tap `{}`", tap.name)).at(&tap.loc);
    let mut wanted: BTreeMap<FuncId, Vec<(usize, Value)>> = BTreeMap::new();
    let mut refused: Vec<Option<Diag>> = vec![None; 2 * taps.len()];
    for (place, (tap, gradient)) in taps.iter().zip(gradients).enumerate() {
        wanted.entry(tap.func).or_default().push((place, tap.value));
        match gradient {
            Some((func, value)) => wanted.entry(func).or_default().push((taps.len() + place, value)),
            None => refused[taps.len() + place] = Some(refusal(tap, "no derivative passes through it")),
        }
    }
    // Inner bodies first: a body is recorded, and so numbered, after the function that applies it.
    while let Some((func, values)) = wanted.pop_last() {
        if func == entry {
            results(&mut module, entry, &values);
            break;
        }
        match outwards(&mut module, func, &values, &mut wanted) {
            Ok(()) => {}
            Err(why) => values.iter().for_each(|(place, _)| refused[*place] = Some(refusal(&taps[*place % taps.len()], &why))),
        }
    }
    Exposed { module, names: taps.into_iter().map(|tap| tap.name).collect(), refused }
}

/// The entry's results, in the order of taps.
fn results(module: &mut Module, entry: FuncId, values: &[(usize, Value)]) {
    let mut values = values.to_vec();
    values.sort_unstable_by_key(|(place, _)| *place);
    let function = module.function_mut(entry);
    values.into_iter().for_each(|(_, value)| function.add_result(value, Sink::Out));
}

/// Makes values of a body results of what applies it: they are values of the function around it then.
fn outwards(
    module: &mut Module,
    body: FuncId,
    values: &[(usize, Value)],
    wanted: &mut BTreeMap<FuncId, Vec<(usize, Value)>>,
) -> Result<(), String> {
    let (caller, node) = user_of(module, body).ok_or("it is computed in a function that nothing applies")?;
    let types =
        |module: &Module| -> Vec<_> { values.iter().map(|(_, value)| module.function(body).graph.ty(*value).clone()).collect() };
    let mut op = module.function(caller).graph.op(node).clone();
    let new = types(module);
    if let Op::Scan(scan) = &mut op {
        let trip = scan.trip.clone();
        scan.results.extend(new.iter().map(|slice| stack_of(&trip, slice)));
    } else if let Op::Call(call) = &mut op {
        if call.vjp.is_some() {
            return Err("it is computed in a function with a derivative of its own; tap what that takes or gives".to_owned());
        }
        call.results.extend(new);
    } else {
        let times = if matches!(op, Op::If(_)) { "perhaps not at all" } else { "any number of times" };
        return Err(format!("it is computed in the body of a `{}`, {times}; tap what that gives, or use scan", op.name()));
    }
    let function = module.function_mut(body);
    values.iter().for_each(|(_, value)| function.add_result(*value, Sink::Out));
    let function = module.function_mut(caller);
    let (args, loc) = (function.graph.args(node), function.graph.loc(node).clone());
    let own = function.graph.node(node).outs.len();
    let by = function.graph.add(op, &args, loc).expect("more results change no operand");
    let out = |node: NodeId, place: usize| node.out(u16::try_from(place).expect("I8: a node has fewer than 65536 results"));
    (0..own).for_each(|place| function.replace(out(node, place), out(by, place)));
    function.graph.remove(node);
    let of_caller = wanted.entry(caller).or_default();
    // What was tapped of the node's own results is now the new node's.
    of_caller.iter_mut().filter(|(_, value)| value.node == node).for_each(|(_, value)| value.node = by);
    of_caller.extend(values.iter().enumerate().map(|(place, (tap, _))| (*tap, out(by, own + place))));
    Ok(())
}

/// The node that applies a body, and its function. A body that was traced is applied once.
fn user_of(module: &Module, body: FuncId) -> Option<(FuncId, NodeId)> {
    module.functions.iter().find_map(|(id, function)| {
        let graph = &function.graph;
        graph.nodes().find(|node| graph.op(*node).functions().contains(&body)).map(|node| (*id, node))
    })
}
