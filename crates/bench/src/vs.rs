//! Our cases beside the same work of others in the same minutes: PyTorch, JAX and ONNX Runtime, from the environments that
//! `peers/setup.sh DIR` makes.
//!
//! Every engine reads the same weights and data, which PyTorch writes once. In the first round every mode of every engine runs, in
//! later ones each engine's best; ours runs between them, so that whatever else the machine does meets all alike. PyTorch runs as it
//! comes and with an allocator that keeps its memory (`+retain`), which matters where results are large.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use graver::ir::Sizes;
use serde_json::Value;

use crate::cases::{self, Build, Case, Kind};
use crate::row::say;

/// Another engine.
struct Peer {
    name: &'static str,
    /// The environment that it lives in.
    home: &'static str,
    script: &'static str,
    modes: fn(Kind) -> &'static [&'static str],
}

const ONNX_RUNTIME: &str = "peer_ort.py";

const PEERS: [Peer; 3] = [
    Peer {
        name: "torch",
        home: "torch",
        script: "peer_torch.py",
        modes: |kind| match kind {
            Kind::Train => &["eager", "eager+retain", "eager_fused", "eager_fused+retain", "compile", "compile+retain"],
            Kind::Infer => &["eager", "eager+retain", "compile", "compile+retain", "freeze", "freeze+retain"],
            Kind::Decode | Kind::Operation => &["eager", "eager+retain", "compile", "compile+retain"],
            Kind::File => &[],
        },
    },
    Peer {
        name: "jax",
        home: "jax",
        script: "peer_jax.py",
        modes: |kind| match kind {
            Kind::Train | Kind::Infer | Kind::Operation => &["jit", "jit+retain"],
            Kind::Decode | Kind::File => &[],
        },
    },
    Peer {
        name: "ort",
        home: "jax",
        script: ONNX_RUNTIME,
        modes: |kind| match kind {
            Kind::Train | Kind::Decode => &[],
            Kind::Infer | Kind::Operation | Kind::File => &["ort", "ort+retain"],
        },
    },
];

/// glibc keeps what is freed instead of giving it back.
const RETAIN: [(&str, &str); 3] =
    [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "17179869184"), ("MALLOC_TOP_PAD_", "268435456")];

/// How a comparison is run.
pub(crate) struct Versus<'a> {
    /// Where `setup.sh` put the environments; weights and data come to lie there too.
    pub(crate) dir: &'a Path,
    pub(crate) threads: usize,
    pub(crate) rounds: u16,
    pub(crate) json: bool,
    /// What models in files leave open.
    pub(crate) sizes: Sizes,
}

/// The medians of every mode of every engine, one a round, in milliseconds.
type Medians = BTreeMap<(&'static str, &'static str), Vec<f64>>;

/// Whether there is an ONNX file of a case: of results, not of derivatives or of products, whose shapes are arguments'.
fn has_onnx(case: &Case) -> bool {
    match case.kind() {
        Kind::Infer | Kind::File => true,
        Kind::Operation => !["grad", "gemm", "linear"].iter().any(|word| case.name.contains(word)),
        Kind::Train | Kind::Decode => false,
    }
}

/// What an engine computed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    /// The first loss, or the mean magnitude of the results.
    check: f64,
    /// How far an element is from what is expected, where that is known.
    absolute: Option<f64>,
    /// The same, as a share of a result's greatest magnitude.
    relative: Option<f64>,
}

impl Seen {
    fn of(row: &Value) -> Self {
        let number = |key: &str| row[key].as_f64();
        Self { check: number("check").unwrap_or(f64::NAN), absolute: number("error_abs"), relative: number("error_rel") }
    }

    /// The first check, and the worse errors of both.
    fn and(self, other: Self) -> Self {
        let worse = |x: Option<f64>, y: Option<f64>| x.into_iter().chain(y).reduce(f64::max);
        let (absolute, relative) = (worse(self.absolute, other.absolute), worse(self.relative, other.relative));
        Self { absolute, relative, ..self }
    }
}

impl Versus<'_> {
    /// Runs a case of everybody's; `ours` runs it here and gives the row that it printed.
    pub(crate) fn case(&self, case: &Case, ours: &dyn Fn(&Path) -> Result<String, String>) -> Result<(), String> {
        let data = self.dir.join("data");
        self.prepare(case, &data)?;
        let (mut own, mut peers, mut seen): (Vec<f64>, Medians, BTreeMap<&str, Seen>) = Default::default();
        for round in 0..self.rounds {
            for peer in &PEERS {
                let best = (round > 0).then(|| best(&peers, Some(peer.name))).flatten();
                let all = if peer.script == ONNX_RUNTIME && !has_onnx(case) { &[] } else { (peer.modes)(case.kind()) };
                let modes = all.iter().filter(|mode| best.is_none_or(|((_, best), _)| best == **mode));
                for mode in modes {
                    let Some(row) = self.peer(peer, mode, case, &data) else { continue };
                    peers.entry((peer.name, mode)).or_default().push(number(&row, "median_ms")?);
                    note(&mut seen, peer.name, &row);
                }
                let row = ours(&data)?;
                if self.json {
                    say(row.trim());
                }
                let row: Value = serde_json::from_str(&row).map_err(|error| format!("{}: {error}", case.name))?;
                own.push(number(&row, "median_ms")?);
                note(&mut seen, "graver", &row);
            }
        }
        summary(case, &mut own, &peers, &seen);
        Ok(())
    }

    /// Weights, data and the ONNX file of a case, made once.
    fn prepare(&self, case: &Case, data: &Path) -> Result<(), String> {
        let python = self.dir.join("torch/bin/python");
        if !python.exists() {
            return Err(format!("{} is not there; `{}` makes it", python.display(), scripts().join("setup.sh").display()));
        }
        let make = |file: String, script: &str, words: &[&str]| {
            if data.join(&file).exists() {
                return Ok(());
            }
            let mut command = Command::new(&python);
            command.arg(scripts().join(script)).args(words);
            let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{}: {error}", python.display()))?;
            if output.status.success() { Ok(()) } else { Err(format!("{script}: {}", last_lines(&output.stderr))) }
        };
        std::fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        if let Build::File(path) = &case.build {
            return cases::prepare(path, &self.sizes, data).map_err(|error| error.to_string());
        }
        let folder = data.to_string_lossy();
        make(format!("{}.safetensors", case.name), "dump.py", &[&folder, case.name])?;
        let file = format!("{}.onnx", case.name);
        if has_onnx(case) {
            make(file.clone(), "export_onnx.py", &[case.name, &folder, &data.join(file).to_string_lossy()])
        } else {
            Ok(())
        }
    }

    /// What an engine printed of a case; where it cannot, that is said, and nothing comes of it.
    fn peer(&self, peer: &Peer, mode: &str, case: &Case, data: &Path) -> Option<Value> {
        let (plain, retains) = mode.strip_suffix("+retain").map_or((mode, false), |plain| (plain, true));
        let python = self.dir.join(peer.home).join("bin/python");
        let mut command = Command::new(&python);
        command
            .arg(scripts().join(peer.script))
            .args([case.name, plain, &self.threads.to_string()])
            .arg(data)
            .stdin(Stdio::null());
        if retains {
            command.envs(RETAIN);
        }
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let row = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).next_back();
        match row {
            Some(mut row) if output.status.success() => {
                row["mode"] = mode.into();
                if self.json {
                    say(&row.to_string());
                }
                Some(row)
            }
            _ => {
                eprintln!("graver-bench: {}: {} {mode}: {}", case.name, peer.name, last_lines(&output.stderr));
                None
            }
        }
    }
}

fn note<'a>(seen: &mut BTreeMap<&'a str, Seen>, engine: &'a str, row: &Value) {
    let new = Seen::of(row);
    let all = seen.get(engine).map_or(new, |before| before.and(new));
    seen.insert(engine, all);
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn number(row: &Value, key: &str) -> Result<f64, String> {
    row[key].as_f64().ok_or_else(|| format!("a row has no number `{key}`: {row}"))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The engine and mode of the least median, of one engine or of all.
fn best(medians: &Medians, engine: Option<&str>) -> Option<((&'static str, &'static str), f64)> {
    let of = medians.iter().filter(|((name, _), _)| engine.is_none_or(|engine| engine == *name));
    of.map(|(key, times)| (*key, median(&mut times.clone()))).min_by(|x, y| x.1.total_cmp(&y.1))
}

/// The end of what a program said.
fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// One line a case: ours, the best of the others, how many times its time ours is, and what everybody computed.
fn summary(case: &Case, own: &mut [f64], peers: &Medians, seen: &BTreeMap<&str, Seen>) {
    let ours = median(own);
    let range = format!("{:.4}..{:.4}", own[0], own[own.len() - 1]);
    let Some(((engine, mode), theirs)) = best(peers, None) else {
        return say(&format!("{:<22} {ours:>10.4} ms ({range}); no other engine ran it", case.name));
    };
    let others: Vec<String> = PEERS
        .iter()
        .filter_map(|peer| best(peers, Some(peer.name)))
        .map(|((engine, mode), time)| format!("{engine} {mode} {time:.4}"))
        .collect();
    let differ = seen.values().any(|value| {
        let far = (value.check - seen["graver"].check).abs() > DIFFERENT * value.check.abs().max(1e-30);
        far || value.relative.is_some_and(|share| share > DIFFERENT)
    });
    let errors =
        seen.iter().filter_map(|(engine, seen)| Some(format!("{engine} {:.1e} ({:.1e})", seen.absolute?, seen.relative?)));
    let errors: Vec<String> = errors.collect();
    say(&format!(
        "{:<22} {ours:>10.4} ms ({range}); {engine} {mode} {theirs:.4}: {:.2}x; all: {}{}{}",
        case.name,
        theirs / ours,
        others.join(", "),
        if errors.is_empty() { String::new() } else { format!("; errors, and their shares: {}", errors.join(", ")) },
        if differ { format!("; RESULTS DIFFER: {seen:?}") } else { String::new() }
    ));
}

/// How far first losses and mean magnitudes may lie apart, and elements from what is expected, relatively.
const DIFFERENT: f64 = 1e-4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_least_median_not_the_least_time() {
        let medians: Medians = BTreeMap::from([
            (("torch", "eager"), vec![1.0, 9.0, 8.0]),
            (("torch", "compile"), vec![5.0, 4.0, 6.0]),
            (("jax", "jit"), vec![3.0, 7.0, 6.0]),
        ]);
        assert_eq!(best(&medians, None), Some((("torch", "compile"), 5.0)));
        assert_eq!(best(&medians, Some("jax")), Some((("jax", "jit"), 6.0)));
        assert_eq!(best(&medians, Some("ort")), None);
    }

    #[test]
    fn errors_are_the_worst_of_all_modes() {
        let row = |check: f64, absolute: f64, relative: f64| serde_json::json!({"check": check, "error_abs": absolute, "error_rel": relative});
        let mut seen = BTreeMap::new();
        note(&mut seen, "torch", &row(1.0, 2e-6, 1e-7));
        note(&mut seen, "torch", &row(1.5, 1e-6, 3e-7));
        note(&mut seen, "jax", &serde_json::json!({"check": 1.0}));
        assert_eq!(seen["torch"], Seen { check: 1.0, absolute: Some(2e-6), relative: Some(3e-7) });
        assert_eq!(seen["jax"], Seen { check: 1.0, absolute: None, relative: None });
    }

    #[test]
    fn every_script_is_there() {
        let others = ["setup.sh", "dump.py", "export_onnx.py", "cases.py", "operations.py", "timing.py"];
        let scripts_of = PEERS.iter().map(|peer| peer.script).chain(others);
        for script in scripts_of {
            assert!(scripts().join(script).exists(), "{script}");
        }
    }
}
