//! Functions that control flow applies, while passes make them anew: parameters, results and names.

use graver_ir::{FuncId, Function, Module, NodeId, Param, Role, Sink, Value};
use rustc_hash::FxHashMap;

/// Which values are results of a function, and which results: for those who replace many, one by one.
pub(crate) struct Given(FxHashMap<Value, Vec<usize>>);

impl Given {
    pub(crate) fn of(function: &Function) -> Self {
        let mut given = Self(FxHashMap::default());
        for (place, result) in function.results.iter().enumerate() {
            given.0.entry(result.value).or_default().push(place);
        }
        given
    }

    pub(crate) fn has(&self, value: Value) -> bool {
        self.0.contains_key(&value)
    }

    /// Makes every user of `old`, the results among them, use `new`: [`Function::replace`].
    pub(crate) fn replace(&mut self, function: &mut Function, old: Value, new: Value) {
        function.graph.replace_uses(old, new);
        if let Some(places) = self.0.remove(&old) {
            places.iter().for_each(|place| function.results[*place].value = new);
            self.0.entry(new).or_default().extend(places);
        }
    }
}

/// A function of the module under a name that no other has.
pub(crate) fn add(module: &mut Module, mut function: Function, base: &str, what: &str) -> FuncId {
    let taken = |name: &str| module.functions.values().any(|function| function.name == name);
    let base = base.split('.').next().unwrap_or(base);
    // By the number of its id: a function that a pass has taken out for a while has its id here, but not its name.
    let first = module.functions.last_key_value().map_or(0, |(id, _)| id.0 + 1);
    let mut names = (first..).map(|number| format!("{base}.{what}{number}"));
    function.name = names.find(|name| !taken(name)).expect("one of infinitely many is free");
    module.add(function)
}

/// The parameters as values.
pub(crate) fn param_values(function: &Function) -> Vec<Value> {
    function.params.iter().map(|param| param.node.into()).collect()
}

/// Those items that are marked.
pub(crate) fn marked<T: Clone>(all: &[T], marks: &[bool]) -> Vec<T> {
    all.iter().zip(marks).filter(|(_, mark)| **mark).map(|(item, _)| item.clone()).collect()
}

/// A new parameter of each value's type.
pub(crate) fn add_params(function: &mut Function, like: &[Value], name: &str) -> Vec<Value> {
    let mut added = Vec::new();
    for value in like {
        let (ty, loc) = (function.graph.ty(*value).clone(), function.graph.loc(value.node).clone());
        added.push(function.add_param(ty, Role::Arg(name.to_owned()), loc).into());
    }
    added
}

/// Gives the function its parameters in another order, or fewer of them.
pub(crate) fn set_params(function: &mut Function, order: &[Value]) {
    let known: Vec<Param> = std::mem::take(&mut function.params);
    let find = |value: &Value| known.iter().find(|param| param.node == value.node).expect("it is one of them").clone();
    function.params = order.iter().map(find).collect();
}

/// Gives the function other results, all to the caller.
pub(crate) fn set_results(function: &mut Function, results: &[Value]) {
    function.results.clear();
    results.iter().for_each(|value| function.add_result(*value, Sink::Out));
}

/// These results of a node.
pub(crate) fn outs(node: NodeId, range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|out| node.out(u16::try_from(out).expect("I8: a node has fewer than 65536 results"))).collect()
}
