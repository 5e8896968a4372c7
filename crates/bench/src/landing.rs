//! What was reached at each landing, so that a change which makes something slower is seen: fractions of the floor that the
//! machine allows, measured in the same run, in a file of one JSON object a line.
//!
//! A fraction says more than a time, since machines differ; it still depends on the processor, so that a run is compared with the last
//! landing of the same one, if there is any.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// One landing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Landing {
    /// The day and the name of the last commit: `2026-11-24 7c46975`.
    pub(crate) commit: String,
    /// The processor's name.
    pub(crate) cpu: String,
    pub(crate) isa: String,
    pub(crate) threads: usize,
    /// The floor over the least time, by case.
    pub(crate) fractions: BTreeMap<String, f64>,
}

/// So much less than at the last landing is worth a warning.
const DROP: f64 = 0.1;

impl Landing {
    /// The landings of a file in order; none if there is no file yet.
    ///
    /// # Errors
    /// A line that is no landing.
    pub(crate) fn read(file: &Path) -> Result<Vec<Self>, String> {
        let text = if file.exists() {
            fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?
        } else {
            String::new()
        };
        let parse = |(at, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", file.display(), at + 1))
        };
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
    }

    /// The one of the landings that this run is to be compared with.
    pub(crate) fn last<'a>(&self, landings: &'a [Self]) -> Option<&'a Self> {
        let alike = |other: &&Self| (&other.isa, other.threads) == (&self.isa, self.threads);
        let mut all = landings.iter().rev().filter(alike);
        all.clone().find(|other| other.cpu == self.cpu).or_else(|| all.next())
    }

    /// One warning a case that fell by more than a tenth.
    pub(crate) fn warnings(&self, last: &Self) -> Vec<String> {
        let fallen = self.fractions.iter().filter_map(|(case, now)| {
            let then = last.fractions.get(case)?;
            (*now < then * (1.0 - DROP)).then(|| {
                let mut text =
                    format!("{case}: {:.0} % of the floor's speed, {:.0} % on {}", now * 100.0, then * 100.0, last.commit);
                if last.cpu != self.cpu {
                    let _ = write!(text, " (on another processor: {})", last.cpu);
                }
                text
            })
        });
        fallen.collect()
    }

    /// Adds this one to the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn append(&self, file: &Path) -> Result<(), String> {
        let mut all = Self::read(file)?;
        all.push(self.clone());
        let lines: Vec<String> =
            all.iter().map(|landing| serde_json::to_string(landing).expect("numbers and texts are JSON")).collect();
        fs::write(file, lines.join("\n") + "\n").map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// The processor's name, as the system tells it.
pub(crate) fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The day and the name of the commit that is checked out; empty outside of a repository.
pub(crate) fn commit() -> String {
    let output = Command::new("git").args(["show", "--no-patch", "--format=%cs %h"]).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(cpu: &str, commit: &str, fraction: f64) -> Landing {
        let fractions = BTreeMap::from([("mlp_train".to_owned(), fraction)]);
        Landing { commit: commit.to_owned(), cpu: cpu.to_owned(), isa: "v4".to_owned(), threads: 2, fractions }
    }

    #[test]
    fn a_drop_over_a_tenth_is_a_warning() {
        let (then, now) = (landing("a", "2026-01-01", 0.8), landing("a", "2026-02-01", 0.73));
        assert!(now.warnings(&then).is_empty());
        let slower = landing("a", "2026-02-01", 0.7);
        assert_eq!(slower.warnings(&then), ["mlp_train: 70 % of the floor's speed, 80 % on 2026-01-01"]);
    }

    #[test]
    fn a_run_is_compared_with_the_last_landing_of_its_processor() {
        let all = [landing("a", "2026-01-01", 0.5), landing("a", "2026-01-02", 0.6), landing("b", "2026-01-03", 0.9)];
        let last = |cpu: &str| landing(cpu, "", 0.0).last(&all).map(|landing| landing.commit.as_str());
        assert_eq!([last("a"), last("b"), last("c")], [Some("2026-01-02"), Some("2026-01-03"), Some("2026-01-03")]);
        let other = Landing { threads: 8, ..landing("a", "", 0.0) };
        assert_eq!(other.last(&all), None);
    }

    #[test]
    fn what_is_appended_is_read_again() {
        let folder = std::env::temp_dir().join(format!("graver-landings-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder of our own");
        let file = folder.join("landings.jsonl");
        let all = [landing("a", "2026-01-01", 0.5), landing("b", "2026-01-02", 0.6)];
        all.iter().for_each(|landing| landing.append(&file).expect("it can be written"));
        assert_eq!(Landing::read(&file).expect("it can be read"), all);
        fs::write(&file, "{}\nno\n").expect("it can be written");
        assert!(Landing::read(&file).expect_err("that is no landing").contains("landings.jsonl:1: "));
        fs::remove_dir_all(&folder).expect("it is ours");
    }
}
