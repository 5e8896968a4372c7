//! Every operation alone.

use graver_ir::Target;
use graver_passes::{Silent, pipeline};

#[test]
fn every_sample_compiles() {
    for sample in graver_testkit::samples() {
        let program = pipeline::compile(sample.module, &Target::generic(), &mut Silent);
        assert!(program.is_ok(), "{}", sample.name);
    }
}
