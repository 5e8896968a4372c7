//! Times of calls as the peers' harness takes them: a first call, some to warm up, then samples until there are enough.
//!
//! Other programs may share the machine: what they used while samples were taken is told beside the times.

use std::fs;
use std::time::{Duration, Instant};

use graver::prelude::*;

use crate::cases::Runs;

/// Calls before samples, at least.
const WARM: usize = 3;
/// Samples are taken for so long, and until there are so many, whichever is later.
const LONG: Duration = Duration::from_millis(1500);
const MANY: usize = 10;
/// Samples are taken no longer than this once there are five.
const LONGEST: Duration = Duration::from_secs(12);
/// A sample is of so many calls that it takes as long: clocks are coarse.
const SAMPLE: Duration = Duration::from_micros(200);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Timed {
    pub(crate) median: Duration,
    pub(crate) least: Duration,
    pub(crate) first: Duration,
    /// Megabytes of memory that the process had at most since [`reset_peak`].
    pub(crate) peak_rss_mb: u64,
    /// Processors that other programs used meanwhile.
    pub(crate) others: f64,
    /// What the first three calls gave.
    pub(crate) seen: Vec<f64>,
}

/// Calls it often enough.
pub(crate) fn measure(case: &mut dyn Runs) -> Result<Timed, Error> {
    let start = Instant::now();
    case.call()?;
    let first = start.elapsed();
    let mut seen = vec![case.seen()?];
    let (mut calls, mut took, begin) = (0, Duration::MAX, Instant::now());
    while calls < WARM || begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        case.call()?;
        took = took.min(start.elapsed());
        calls += 1;
        if seen.len() < 3 {
            seen.push(case.seen()?);
        }
    }
    let each = u32::try_from((SAMPLE.as_nanos() / took.as_nanos().max(1)).max(1)).unwrap_or(1);
    let (busy, begin) = (Busy::now(), Instant::now());
    let mut samples = Vec::new();
    while (samples.len() < MANY || begin.elapsed() < LONG) && (samples.len() < 5 || begin.elapsed() < LONGEST) {
        let start = Instant::now();
        for _ in 0..each {
            case.call()?;
        }
        samples.push(start.elapsed() / each);
    }
    samples.sort_unstable();
    let (median, least) = (samples[samples.len() / 2], samples[0]);
    Ok(Timed { median, least, first, peak_rss_mb: peak_rss_mb(), others: busy.others(begin.elapsed()), seen })
}

/// Forgets how much memory the process had at most. Where it cannot be forgotten, the peak counts from the start.
pub(crate) fn reset_peak() {
    // Not every kernel has it.
    drop(fs::write("/proc/self/clear_refs", "5"));
}

/// Megabytes of memory that the process had at most; 0 where the system does not tell.
fn peak_rss_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    peak.unwrap_or(0) / 1024
}

/// Ticks of the clock, hundredths of a second, that processors were busy: all, and with this process.
struct Busy {
    all: f64,
    own: f64,
}

impl Busy {
    fn now() -> Self {
        let numbers = |text: String| text.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<_>>();
        let all = fs::read_to_string("/proc/stat").unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all = numbers(all)
            .iter()
            .enumerate()
            .filter(|(place, _)| ![3, 4].contains(place) && *place < 8)
            .map(|(_, ticks)| ticks)
            .sum();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field, a name in parentheses, may hold spaces; user and system time are the 14th and 15th.
        let own = own.rsplit_once(')').map_or(0.0, |(_, rest)| {
            numbers(rest.split_whitespace().skip(11).take(2).collect::<Vec<_>>().join(" ")).iter().sum()
        });
        Self { all, own }
    }

    /// Processors that others used since.
    fn others(&self, time: Duration) -> f64 {
        let now = Self::now();
        (((now.all - self.all) - (now.own - self.own)) / 100.0 / time.as_secs_f64()).max(0.0)
    }
}
