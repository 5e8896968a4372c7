//! What is printed about a compilation and about epochs.

use std::time::Duration;

use graver::ir::{Error, Sizes};
use graver::trace::{Engine, Spec, Tree};

use crate::say::say;

/// Where compile time went, and what came out.
pub(crate) fn compiled<S: Spec, Y: Tree>(what: &str, engine: &Engine<S, Y>, batch: usize) -> Result<(), Error> {
    let report = engine.report();
    say(&format!("{what}:"));
    row("trace", report.trace, "");
    for pass in &report.passes {
        row(pass.pass, pass.took, &format!("{} nodes{}", pass.nodes, if pass.changed { "" } else { ", nothing to do" }));
    }
    for (stage, took) in &report.stages {
        row(stage, *took, "");
    }
    row("codegen", report.codegen, &format!("{} kernels", engine.kernels().len()));
    let sizes = Sizes::from([("batch".to_owned(), i64::try_from(batch).unwrap_or(i64::MAX))]);
    let launches = engine.program().entries.iter().map(|entry| entry.steps.len()).sum::<usize>();
    let working = engine.working_bytes(&sizes)?;
    let [planned, live] = [working.total(), working.live].map(|bytes| bytes as f64 / 1024.0);
    say(&format!(
        "  {launches} launches a call, {planned:.1} KiB of memory at batch {batch}, {live:.1} KiB of it in use at once\n"
    ));
    Ok(())
}

fn row(what: &str, took: Duration, note: &str) {
    say(&format!("  {what:<10} {:>9.3} ms  {note}", took.as_secs_f64() * 1e3));
}

/// One finished epoch.
pub(crate) fn epoch(number: u32, loss: Option<f64>, accuracy: Option<f64>, rate: f64) {
    let (loss, accuracy) = (loss.unwrap_or(f64::NAN), accuracy.unwrap_or(f64::NAN));
    say(&format!("epoch {number:>2}: train loss {loss:.6}, test accuracy {accuracy:.4}, {rate:.0} images/s"));
}
