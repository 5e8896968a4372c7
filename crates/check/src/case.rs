//! A program with everything that it takes to run it, in one text.

use graver_ir::{Array, Error, Function, Loc, Module, Op, Sink, text};

/// A program, the arguments of one call, and the state before it.
///
/// As text: comment lines that say what is shown, and the program with two more functions that nobody calls: `inputs` gives the
/// arguments, `state` the slots, in their orders, as constants.
///
/// ```
/// use graver_check::Case;
/// let case = Case::parse(
///     "// pass: fold
/// graver 1
/// func @main(%0: f32[2] = arg \"x\") {
///   %1 = neg(%0) : f32[2]
///   return %1
/// }
/// func @inputs() {
///   %0 = const() {value = f32[2] [1.0, 2.0]} : f32[2]
///   return %0
/// }",
/// )?;
/// assert_eq!((case.pass.as_deref(), case.inputs[0].to_f64()), (Some("fold"), vec![1.0, 2.0]));
/// assert_eq!(Case::parse(&case.print(&[]))?, case);
/// # Ok::<(), graver_ir::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The program.
    pub module: Module,
    /// The arguments of its entry.
    pub inputs: Vec<Array>,
    /// One array a slot of its state.
    pub state: Vec<Array>,
    /// The only pass that it is to go through; the whole compiler where there is none.
    pub pass: Option<String>,
}

/// The functions that hold arrays.
const INPUTS: &str = "inputs";
const STATE: &str = "state";
/// The comment that names the pass.
const PASS: &str = "// pass: ";

impl Case {
    /// The case as text, after comment lines of these words.
    #[must_use]
    pub fn print(&self, comments: &[String]) -> String {
        let mut module = self.module.clone();
        for (name, arrays) in [(INPUTS, &self.inputs), (STATE, &self.state)] {
            if !arrays.is_empty() {
                module.add(holding(name, arrays));
            }
        }
        let pass = self.pass.iter().map(|pass| format!("{PASS}{pass}\n"));
        let lines = comments.iter().flat_map(|comment| comment.lines()).map(|line| format!("// {line}\n"));
        lines.chain(pass).chain([text::print(&module)]).collect()
    }

    /// Reads what [`Case::print`] writes.
    ///
    /// # Errors
    /// If the text is no program, or its arrays are no constants.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let pass = source.lines().take_while(|line| line.starts_with("//")).find_map(|line| line.strip_prefix(PASS));
        let mut module = text::parse(source)?;
        let [inputs, state] = [INPUTS, STATE].map(|name| take(&mut module, name));
        Ok(Self { module, inputs: inputs?, state: state?, pass: pass.map(str::to_owned) })
    }
}

fn holding(name: &str, arrays: &[Array]) -> Function {
    let mut function = Function::new(name);
    for array in arrays {
        let node = function.graph.add(Op::Const(array.clone()), &[], Loc::UNKNOWN).expect("a constant has no constraint");
        function.add_result(node, Sink::Out);
    }
    function
}

/// Takes a function of constants out of a module.
fn take(module: &mut Module, name: &str) -> Result<Vec<Array>, Error> {
    let found = module.functions.iter().find(|(_, function)| function.name == name && function.params.is_empty());
    let Some(id) = found.map(|(id, _)| *id) else { return Ok(Vec::new()) };
    let function = module.functions.remove(&id).unwrap_or_default();
    let array = |result: &graver_ir::FuncResult| {
        let op = function.graph.op(result.value.node);
        if let Op::Const(array) = op {
            Ok(array.clone())
        } else {
            Err(Error::new(format!("`{name}` gives `{}`, not a constant", op.name())))
        }
    };
    function.results.iter().map(array).collect()
}
