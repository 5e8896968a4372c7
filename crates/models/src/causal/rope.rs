//! Frequencies of rotary positions, as configurations scale them.

use std::f64::consts::TAU;

use graver_nn::Rotary;
use serde::Deserialize;

/// How frequencies are scaled: `rope_parameters`, or `rope_scaling` of older files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RopeScaling {
    /// Which rule: `default`, `linear`, `llama3`.
    #[serde(alias = "type")]
    pub rope_type: Option<String>,
    /// What the frequencies are powers of, in newer files.
    pub rope_theta: Option<f64>,
    /// By how much longer texts may be than those trained on.
    pub factor: Option<f64>,
    /// Waves longer than the old length over this are stretched.
    pub low_freq_factor: Option<f64>,
    /// Waves shorter than the old length over this stay.
    pub high_freq_factor: Option<f64>,
    /// The length that was trained on.
    pub original_max_position_embeddings: Option<f64>,
    /// The share of a head that turns.
    pub partial_rotary_factor: Option<f64>,
}

impl RopeScaling {
    /// The rule by its name.
    fn rule(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }

    /// What the rule lacks, or that there is no such rule.
    pub(super) fn lacks(&self) -> Option<String> {
        let of = |name: &str, number: Option<f64>| {
            (!number.is_some_and(|number| number > 0.0)).then(|| format!("`{}` needs a positive `{name}`", self.rule()))
        };
        let factor = || of("factor", self.factor);
        match self.rule() {
            _ if self.partial_rotary_factor.is_some_and(|share| share != 1.0) => Some("only whole heads turn".to_owned()),
            "default" => None,
            "linear" => factor(),
            "llama3" => factor()
                .or_else(|| of("low_freq_factor", self.low_freq_factor))
                .or_else(|| of("high_freq_factor", self.high_freq_factor))
                .or_else(|| of("original_max_position_embeddings", self.original_max_position_embeddings)),
            other => Some(format!("frequencies are scaled by `{other}`; known: default, linear, llama3")),
        }
    }

    /// The positions of heads of a width, if nothing is lacking.
    pub(super) fn rotary(&self, width: usize, theta: f64) -> Rotary {
        let plain = Rotary::new(width, self.rope_theta.unwrap_or(theta));
        let factor = self.factor.unwrap_or(1.0);
        match self.rule() {
            "linear" => Rotary::from_frequencies(plain.frequencies().iter().map(|frequency| frequency / factor).collect()),
            "llama3" => Rotary::from_frequencies(plain.frequencies().iter().map(|frequency| self.llama3(*frequency)).collect()),
            _ => plain,
        }
    }

    /// Grattafiori et al. (2024), "The Llama 3 herd of models": long waves are stretched, short ones stay, between is between.
    fn llama3(&self, frequency: f64) -> f64 {
        let number = |given: Option<f64>| given.expect("checked when the configuration was read");
        let (factor, length) = (number(self.factor), number(self.original_max_position_embeddings));
        let (low, high) = (number(self.low_freq_factor), number(self.high_freq_factor));
        let turns = length * frequency / TAU;
        if turns > high {
            frequency
        } else if turns < low {
            frequency / factor
        } else {
            let share = (turns - low) / (high - low);
            (1.0 - share) * frequency / factor + share * frequency
        }
    }
}
