//! `graver check`: a call against the interpreter, kernel by kernel.

use std::path::Path;

use graver_check::{Case, Checked, Compiler};

use crate::failure::{Failure, print};
use crate::{Check, load, model, run};

/// `graver check`
pub(crate) fn check(args: &Check) -> Result<(), Failure> {
    let mut case = case(args)?;
    match &args.state {
        Some(path) => case.state = run::read_state(path, &case.module.state)?,
        None if case.state.len() == case.module.state.len() => {}
        None => return Err(run::missing_state(&case.module.state)),
    }
    let backend = run::device(&args.machine)?;
    match graver_check::check(&case, &Compiler::new(backend.as_ref()))? {
        Checked::Right { launches } => print(&format!("as written: {launches} launches and the whole\n")),
        Checked::Wrong(finding) => {
            let written = args.write.as_deref().map(|path| write(path, &finding.to_gir())).transpose()?;
            let where_to = written.map_or_else(|| format!("\n{}", finding.to_gir()), |path| format!("; see {path}"));
            Err(Failure::Found(format!("{finding}{where_to}")))
        }
    }
}

fn write(path: &Path, text: &str) -> Result<String, Failure> {
    std::fs::write(path, text).map_err(|error| Failure::file(path, error))?;
    Ok(path.display().to_string())
}

/// The program with its own inputs, or with those of a folder.
fn case(args: &Check) -> Result<Case, Failure> {
    let Some(folder) = &args.inputs else {
        let source = load::source(&args.model)?;
        let case = Case::parse(&source).map_err(|error| Failure::program(&args.model, error))?;
        let (wanted, held) = (run::argument_dtypes(&case.module).len(), case.inputs.len());
        if wanted != held {
            let message = format!("the program takes {wanted} inputs and holds {held}; give --inputs DIR");
            return Err(Failure::file(&args.model, message));
        }
        return Ok(case);
    };
    if model::is_onnx(&args.model) {
        let given = model::with_inputs(&args.model, folder)?;
        return Ok(Case { module: given.module, inputs: given.inputs, state: Vec::new(), pass: None });
    }
    let module = load::module(&args.model)?;
    let inputs = load::inputs(folder, &run::argument_dtypes(&module))?;
    Ok(Case { module, inputs, state: Vec::new(), pass: None })
}
