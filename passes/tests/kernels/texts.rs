//! After every pass and stage the module and the program verify, and read back from their texts and JSON as they were.

use std::time::Duration;

use graver_ir::kernel::{self, Program};
use graver_ir::{Module, Target, json, text};
use graver_passes::{Observer, PassReport, pipeline};

/// Checks what it sees.
struct Texts<'a> {
    name: &'a str,
    programs: usize,
}

impl Observer for Texts<'_> {
    fn after_pass(&mut self, report: &PassReport<'_>) {
        let text = text::print(report.module);
        let read = text::parse(&text).unwrap_or_else(|error| panic!("{} after {}: {error}\n{text}", self.name, report.pass));
        assert!(read.eq_with_locs(report.module), "{} after {}\n{text}", self.name, report.pass);
        let read = json::parse(&json::print(report.module)).unwrap_or_else(|error| panic!("{}: {error}\n{text}", self.name));
        assert!(read.eq_with_locs(report.module), "{} after {}, as JSON\n{text}", self.name, report.pass);
    }

    fn program(&mut self, stage: &'static str, program: &Program, _: Duration) {
        self.programs += 1;
        let text = kernel::text::print(program);
        kernel::verify(program).unwrap_or_else(|error| panic!("{} after {stage}: {error}\n{text}", self.name));
        assert_eq!(kernel::text::parse(&text).as_ref(), Ok(program), "{} after {stage}\n{text}", self.name);
        assert_eq!(json::parse_program(&json::print_program(program)).as_ref(), Ok(program), "{} after {stage}", self.name);
    }
}

fn check(name: &str, module: &Module) {
    let mut texts = Texts { name, programs: 0 };
    pipeline::compile(module.clone(), &Target::generic(), &mut texts).expect("the program is right");
    assert_eq!(texts.programs, 4, "lower, schedule, reuse, plan");
}

#[test]
fn every_sample_reads_back() {
    for sample in graver_testkit::samples() {
        check(&sample.name, &sample.module);
    }
}

#[test]
fn random_programs_read_back() {
    for seed in 0..100 {
        check(&format!("seed {seed}"), &graver_testkit::random_program(seed).module);
    }
}
