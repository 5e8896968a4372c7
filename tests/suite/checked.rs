//! Cases that `graver check` has written, or might have: every file of `tests/checked` must be as written on every device. A file that shows a
//! difference is put there as it is, and stays when it is mended.

use std::sync::Arc;

use graver_check::{Case, Checked, Compiler, Guilty, check};
use graver_ir::kernel::{InstKind, KernelBody, Program};
use graver_ir::{Error, ScalarFn, Target};
use graver_runtime::{Backend, Executable};

use crate::levels;
use crate::tidy::root;

fn cases() -> Vec<(String, Case)> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("tests/checked"))
        .expect("a folder of the tests")
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    found.sort();
    let read = |path: std::path::PathBuf| {
        let source = std::fs::read_to_string(&path).expect("the tests' files are text");
        let name = path.display().to_string();
        (name.clone(), Case::parse(&source).unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    found.into_iter().map(read).collect()
}

#[test]
fn every_case_is_as_written() {
    let interp = graver_interp::Interp::default();
    let cpus = levels::cpus(2);
    for (name, case) in cases() {
        for device in cpus.iter().map(|cpu| cpu as &dyn Backend).chain([&interp as &dyn Backend]) {
            match check(&case, &Compiler::new(device)).unwrap_or_else(|error| panic!("{name}: {error}")) {
                Checked::Right { .. } => {}
                Checked::Wrong(finding) => panic!("{name} on {}: {finding}\n{}", device.describe().name, finding.to_gir()),
            }
        }
    }
}

/// The nets and random programs, compiled: what chance says of rounding is enough for every approximation of the CPU's, and no more.
#[test]
fn compiled_programs_are_as_written() {
    let cpus = levels::cpus(2);
    let cpu = cpus.last().expect("a machine has a level");
    for seed in 0..24 {
        let program = graver_testkit::random_program(seed);
        let case = Case { module: program.module, inputs: program.inputs, state: program.state, pass: None };
        match check(&case, &Compiler::new(cpu)).unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
            Checked::Right { .. } => {}
            Checked::Wrong(finding) => panic!("seed {seed}: {finding}\n{}", finding.to_gir()),
        }
    }
}

/// The CPU, with one function compiled as another in kernels that add up.
#[derive(Debug)]
struct Faulty(graver_cpu::Cpu);

impl Backend for Faulty {
    fn describe(&self) -> Target {
        self.0.describe()
    }

    fn compile(&self, program: Arc<Program>) -> Result<Arc<dyn Executable>, Error> {
        let mut program = (*program).clone();
        for kernel in &mut program.kernels {
            let KernelBody::Nest(nest) = &mut kernel.body else { continue };
            for inst in nest.stages.iter_mut().flat_map(|stage| &mut stage.body.insts) {
                if let InstKind::Map(function @ ScalarFn::Exp, _) = &mut inst.kind {
                    *function = ScalarFn::Expm1;
                }
            }
        }
        self.0.compile(Arc::new(program))
    }
}

#[test]
fn a_fault_of_the_cpu_is_found() {
    let faulty = Faulty(graver_cpu::Cpu::new(1));
    let (_, case) = cases().into_iter().find(|(name, _)| name.ends_with("softmax.gir")).expect("the file is there");
    let Checked::Wrong(finding) = check(&case, &Compiler::new(&faulty)).expect("it runs") else { panic!("nothing is found") };
    assert!(matches!(finding.guilty, Guilty::Kernel(_)), "{finding}");
    let (_, main) = finding.case.module.entry().expect("a program");
    assert!(main.graph.len() <= 3, "{}", finding.to_gir());
}
