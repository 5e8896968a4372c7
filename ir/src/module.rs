//! Modules: functions over one state. A function is a [`Graph`] with parameters and results.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, NodeId, Value};
use crate::location::Loc;
use crate::op::Op;
use crate::ty::Type;

/// A function of a [`Module`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FuncId(pub u32);

/// A slot of a [`Module`]'s state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StateId(pub u32);

/// Where a function's parameter comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The caller passes it, under this name in messages.
    Arg(String),
    /// It is read from the state.
    State(StateId),
}

/// Where a function's result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Sink {
    /// To the caller.
    Out,
    /// Into the state, once the call has succeeded.
    Update(StateId),
}

/// A parameter of a function: an [`Op::Param`] node and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// The node.
    pub node: NodeId,
    /// Where it comes from.
    pub role: Role,
}

/// A result of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncResult {
    /// The value.
    pub value: Value,
    /// Where it goes.
    pub sink: Sink,
}

/// A graph with parameters and results.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// The name, unique in its module.
    pub name: String,
    /// The body.
    pub graph: Graph,
    /// The parameters, in call order. Every [`Op::Param`] node of the body is here once.
    pub params: Vec<Param>,
    /// The results, in order.
    pub results: Vec<FuncResult>,
}

impl Function {
    /// An empty function.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a parameter.
    pub fn add_param(&mut self, ty: Type, role: Role, loc: Loc) -> NodeId {
        let node = self.graph.add(Op::Param(ty), &[], loc).expect("a parameter has no constraint but a valid type");
        self.params.push(Param { node, role });
        node
    }

    /// Adds a result.
    pub fn add_result(&mut self, value: impl Into<Value>, sink: Sink) {
        self.results.push(FuncResult { value: value.into(), sink });
    }

    /// Makes every user of `old`, the results among them, use `new`.
    pub fn replace(&mut self, old: Value, new: Value) {
        self.graph.replace_uses(old, new);
        for result in &mut self.results {
            if result.value == old {
                result.value = new;
            }
        }
    }

    /// As [`Function::replace`], of many values, each once and none of them by another that is replaced: users and results are looked
    /// through once.
    pub fn replace_all(&mut self, pairs: &[(Value, Value)]) {
        self.graph.replace_all_uses(pairs);
        let mut pairs = pairs.to_vec();
        pairs.sort_unstable();
        for result in &mut self.results {
            if let Ok(place) = pairs.binary_search_by_key(&result.value, |(old, _)| *old) {
                result.value = pairs[place].1;
            }
        }
    }

    /// The result types.
    #[must_use]
    pub fn result_types(&self) -> Vec<Type> {
        self.results.iter().map(|result| self.graph.ty(result.value).clone()).collect()
    }
}

/// What a slot of the state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum StateKind {
    /// A parameter of a model.
    Param,
    /// A value that forward passes update: running statistics, caches.
    Buffer,
    /// An optimiser's own.
    Slot,
    /// The random key: `u32[4]`.
    Rng,
}

impl StateKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Param, Self::Buffer, Self::Slot, Self::Rng];

    /// The name in texts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Param => "param",
            Self::Buffer => "buffer",
            Self::Slot => "slot",
            Self::Rng => "rng",
        }
    }
}

/// A slot of the state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateDecl {
    /// The path, unique in its module: the checkpoint's key.
    pub path: String,
    /// The type; sizes are numbers.
    pub ty: Type,
    /// What it holds.
    pub kind: StateKind,
}

/// Functions over one state. The first function is the entry.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The functions; [`FuncId`] is the key.
    pub functions: BTreeMap<FuncId, Function>,
    /// The state; [`StateId`] is the position.
    pub state: Vec<StateDecl>,
}

impl Module {
    /// Adds a function.
    pub fn add(&mut self, function: Function) -> FuncId {
        let id = FuncId(self.functions.last_key_value().map_or(0, |(last, _)| last.0 + 1));
        self.functions.insert(id, function);
        id
    }

    /// The function.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn function(&self, id: FuncId) -> &Function {
        self.functions.get(&id).expect("I6: a function id names a function of its module")
    }

    /// The function for rewriting.
    ///
    /// # Panics
    /// If there is none of this id.
    pub fn function_mut(&mut self, id: FuncId) -> &mut Function {
        self.functions.get_mut(&id).expect("I6: a function id names a function of its module")
    }

    /// The entry, if the module is not empty.
    #[must_use]
    pub fn entry(&self) -> Option<(FuncId, &Function)> {
        self.functions.first_key_value().map(|(id, function)| (*id, function))
    }

    /// Adds a slot of state.
    pub fn add_state(&mut self, decl: StateDecl) -> StateId {
        self.state.push(decl);
        StateId(u32::try_from(self.state.len() - 1).expect("fewer than 2^32 slots of state"))
    }

    /// The declaration of a slot.
    ///
    /// # Panics
    /// If there is none of this id.
    #[must_use]
    pub fn state_decl(&self, id: StateId) -> &StateDecl {
        self.state.get(id.0 as usize).expect("I7: a state id names a slot of its module")
    }
}
