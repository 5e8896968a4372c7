//! What is printed of a case: one JSON object a line, with the keys that the peers print, or a table.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::cases::Facts;
use crate::machine::Limits;
use crate::measure::Timed;
use crate::numbers::Errors;

/// A case's result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    case: String,
    engine: String,
    mode: String,
    threads: usize,
    median_ms: f64,
    min_ms: f64,
    /// Tracing, compilation and the first call together: what a user waits for.
    first_call_s: f64,
    compile_s: f64,
    peak_rss_mb: u64,
    flops_est: f64,
    gflops: f64,
    /// Kernels, no two equal.
    kernels: usize,
    /// Memory that a call works in, by the plan.
    planned_peak_mb: f64,
    /// The least time for the case's operations and bytes at the rates of [`Limits`].
    floor_ms: f64,
    other_cpu: f64,
    /// Whether the file of numbers told what to expect.
    checked: bool,
    check: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check2: Option<f64>,
    /// How far the results are from those that are expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_abs: Option<f64>,
    /// The same, as a share of a result's greatest magnitude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error_rel: Option<f64>,
}

impl Row {
    pub(crate) fn new(
        (name, (flops, bytes)): (&str, (f64, f64)),
        mode: String,
        threads: usize,
        timed: &Timed,
        facts: &Facts,
        limits: Limits,
        checked: bool,
    ) -> Self {
        let median = timed.median.as_secs_f64();
        Self {
            case: name.to_owned(),
            engine: "graver".to_owned(),
            mode,
            threads,
            median_ms: rounded(median * 1e3, 5),
            min_ms: rounded(timed.least.as_secs_f64() * 1e3, 5),
            first_call_s: rounded((facts.compile + timed.first).as_secs_f64(), 4),
            compile_s: rounded(facts.compile.as_secs_f64(), 4),
            peak_rss_mb: timed.peak_rss_mb,
            flops_est: flops,
            gflops: rounded(flops / median / 1e9, 1),
            kernels: facts.kernels,
            planned_peak_mb: rounded(facts.planned as f64 / 1e6, 2),
            floor_ms: rounded(limits.floor(flops, bytes).as_secs_f64() * 1e3, 5),
            other_cpu: rounded(timed.others, 2),
            checked,
            check: timed.seen[0],
            check2: timed.seen.get(2).copied(),
            error_abs: None,
            error_rel: None,
        }
    }

    /// With how far its results are from those that are expected.
    pub(crate) fn with(self, errors: Option<Errors>) -> Self {
        Self { error_abs: errors.map(|errors| errors.absolute), error_rel: errors.map(|errors| errors.relative), ..self }
    }

    /// The case and how much of what the machine allows its fastest call reached, if it is known what that is.
    pub(crate) fn fraction(&self) -> Option<(String, f64)> {
        (self.floor_ms > 0.0).then(|| (self.case.clone(), rounded(self.floor_ms / self.min_ms, 3)))
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }

    fn line(&self) -> String {
        format!(
            "{:<22} {:<16} {:>10.4} {:>10.4} {:>10.4} {:>6.0}% {:>8.1} {:>8.3} {:>8.3} {:>7} {:>8.1} {:>8} {:>6.2}",
            self.case,
            self.mode,
            self.median_ms,
            self.min_ms,
            self.floor_ms,
            100.0 * self.floor_ms / self.min_ms,
            self.gflops,
            self.compile_s,
            self.first_call_s,
            self.kernels,
            self.planned_peak_mb,
            self.peak_rss_mb,
            self.other_cpu,
        )
    }
}

fn rounded(x: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (x * scale).round() / scale
}

/// Prints what a case's process printed: rows, and lines that are none as they are.
pub(crate) fn print(text: &str, json: bool, header: bool) {
    if header && !json {
        say(&format!(
            "{:<22} {:<16} {:>10} {:>10} {:>10} {:>7} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8} {:>6}",
            "case",
            "mode",
            "median ms",
            "min ms",
            "floor ms",
            "of min",
            "GFLOP/s",
            "compile",
            "first s",
            "kernels",
            "plan MB",
            "RSS MB",
            "others"
        ));
    }
    for line in text.lines() {
        match serde_json::from_str::<Row>(line) {
            Ok(row) if !json => say(&row.line()),
            Ok(_) | Err(_) => say(line),
        }
    }
}

/// A line on standard output; whoever reads it may have read enough.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
