//! A net of planted faults: mistakes that a compiler might make, each of which the nets must notice.
//!
//! A fault is data: a name, and how to make the mistake. It is planted in many cases and judged as the nets judge a compiler's
//! work; where no case notices it, the nets are too weak. Nothing is said here of correct programs: see `nets`.

mod derivatives;
mod graph;
mod kernels;
mod loops;
mod plan;

use std::fmt;
use std::sync::LazyLock;

use graver_interp::Interp;
use graver_ir::kernel::{self, Program};
use graver_ir::{Array, Error};

use crate::cases::{Case, cases, failing_cases};

/// A mistake to make.
struct Fault<T> {
    name: &'static str,
    /// Makes the mistake at the first place that there is; answers whether there is one.
    plant: fn(&mut T) -> bool,
}

/// What the nets said of a mistake.
enum Verdict {
    /// Nothing: in this case the mistake makes no difference, or the nets are too weak to see it.
    Missed,
    /// A verifier refused it.
    Refused(String),
    /// It failed when it ran, or ran where it had to fail.
    Failed(String),
    /// It gave a wrong result.
    Wrong(String),
}

/// What became of one fault.
#[derive(Default)]
struct Tally {
    planted: usize,
    refused: usize,
    failed: usize,
    wrong: usize,
    /// What was said first.
    first: Option<String>,
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        self.planted += 1;
        let (counter, said) = match verdict {
            Verdict::Missed => return,
            Verdict::Refused(said) => (&mut self.refused, said),
            Verdict::Failed(said) => (&mut self.failed, said),
            Verdict::Wrong(said) => (&mut self.wrong, said),
        };
        *counter += 1;
        self.first.get_or_insert(said);
    }

    fn is_caught(&self) -> bool {
        self.first.is_some()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planted, refused, failed, wrong, first } = self;
        write!(f, "planted {planted} times, refused {refused}, failed {failed}, wrong {wrong}")?;
        first.iter().try_for_each(|said| write!(f, "; first: {}", said.lines().next().unwrap_or_default()))
    }
}

/// Each fault is planted in so many cases at most.
const MOST: usize = 200;

/// Panics unless every fault is noticed in some case.
fn all_are_caught<S, T: Clone>(faults: &[Fault<T>], cases: &[S], healthy: fn(&S) -> &T, judge: fn(&S, T) -> Verdict) {
    let tally = |fault: &Fault<T>| {
        let mut tally = Tally::default();
        // The last come first: random programs, which are the most like users' own.
        for case in cases.iter().rev() {
            let mut sick = healthy(case).clone();
            if (fault.plant)(&mut sick) {
                tally.count(judge(case, sick));
            }
            if tally.planted == MOST {
                break;
            }
        }
        tally
    };
    let tallies: Vec<(&str, Tally)> = faults.iter().map(|fault| (fault.name, tally(fault))).collect();
    let table: Vec<String> = tallies.iter().map(|(name, tally)| format!("{name}: {tally}")).collect();
    println!("{}", table.join("\n"));
    let missed: Vec<&str> = tallies.iter().filter(|(_, tally)| !tally.is_caught()).map(|(name, _)| *name).collect();
    assert!(missed.is_empty(), "not caught: {missed:?}, of\n{}", table.join("\n"));
}

/// A case with what it means, an error where it must fail, and the program that the pipeline makes of it.
struct Compiled {
    case: Case,
    expected: Result<Vec<Array>, Error>,
    program: Program,
}

/// Every case, compiled once for all faults.
static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let compiled = |case: Case| {
        let program = case.compile(&Interp::default()).unwrap_or_else(|error| panic!("{error}\n{}", case.show()));
        Compiled { expected: case.outcome(), program, case }
    };
    let all: Vec<Compiled> = cases().into_iter().chain(failing_cases()).map(compiled).collect();
    let failing = all.iter().filter(|compiled| compiled.expected.is_err()).count();
    assert_eq!(failing, failing_cases().len(), "a case that is not to fail does");
    all
});

impl Compiled {
    /// What the nets say of another program for this case.
    fn judge(&self, program: Program) -> Verdict {
        if let Err(error) = kernel::verify(&program) {
            return Verdict::Refused(error.to_string());
        }
        let verdict = match (&self.expected, self.case.run(&Interp::default(), program)) {
            (Ok(expected), Ok(got)) => self.case.judge(expected, &got).map_err(Verdict::Wrong),
            (Ok(_), Err(error)) => Err(Verdict::Failed(format!("{}: {error}", self.case.name))),
            (Err(error), Ok(_)) => Err(Verdict::Failed(format!("{}: ran, though {error}", self.case.name))),
            (Err(_), Err(_)) => Ok(()),
        };
        verdict.err().unwrap_or(Verdict::Missed)
    }
}
