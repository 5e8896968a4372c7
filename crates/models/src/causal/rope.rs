//! Frequencies of rotary positions, as configurations scale them.

use std::f64::consts::TAU;

use graver_nn::{Longer, Rotary};
use serde::Deserialize;

use crate::support::ROPE_TYPES;

/// No text is longer, whatever a factor says.
const MAX_LENGTH: usize = 1 << 24;

/// How frequencies are scaled: `rope_parameters`, or `rope_scaling` of older files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RopeScaling {
    /// Which rule: `default`, `linear`, `dynamic`, `llama3`, `yarn`, `longrope`.
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
    /// The length that was trained on; the longest of the model without it.
    pub original_max_position_embeddings: Option<f64>,
    /// What turned features are multiplied by.
    pub attention_factor: Option<f64>,
    /// The same as a multiple of what a factor asks for, over that of `mscale_all_dim`.
    pub mscale: Option<f64>,
    /// See `mscale`.
    pub mscale_all_dim: Option<f64>,
    /// Pairs that turn so often in the old length stay.
    pub beta_fast: Option<f64>,
    /// Pairs that turn so seldom in the old length are stretched.
    pub beta_slow: Option<f64>,
    /// Whether the limits are whole pairs; they are without it.
    pub truncate: Option<bool>,
    /// By how much each pair is slower in texts of at most the old length.
    pub short_factor: Option<Vec<f64>>,
    /// And in longer ones.
    pub long_factor: Option<Vec<f64>>,
}

impl RopeScaling {
    /// The rule by its name.
    fn rule(&self) -> &str {
        self.rope_type.as_deref().unwrap_or("default")
    }

    /// What the rule lacks for heads of a width, or that there is no such rule.
    pub(super) fn lacks(&self, width: usize) -> Option<String> {
        let of = |name: &str, number: Option<f64>| {
            (!number.is_some_and(|number| number > 0.0)).then(|| format!("`{}` needs a positive `{name}`", self.rule()))
        };
        let factor = || of("factor", self.factor);
        let old_length = || of("original_max_position_embeddings", self.original_max_position_embeddings);
        let each = |name: &str, numbers: &Option<Vec<f64>>| {
            let given = numbers.as_deref().unwrap_or_default();
            let holds = given.len() == width / 2 && given.iter().all(|number| *number > 0.0);
            (!holds).then(|| format!("`longrope` needs a `{name}` of {} positive numbers", width / 2))
        };
        match self.rule() {
            "default" => None,
            "linear" | "dynamic" => factor(),
            "yarn" => factor().or_else(old_length),
            "longrope" => old_length()
                .or_else(|| each("short_factor", &self.short_factor))
                .or_else(|| each("long_factor", &self.long_factor)),
            "llama3" => factor()
                .or_else(|| of("low_freq_factor", self.low_freq_factor))
                .or_else(|| of("high_freq_factor", self.high_freq_factor))
                .or_else(old_length),
            other => Some(format!("frequencies are scaled by `{other}`; known: {}", ROPE_TYPES.join(", "))),
        }
    }

    /// The longest text, where the model is for texts of a length.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes below 2^53")]
    pub(super) fn longest(&self, length: usize) -> usize {
        match (self.rule(), self.factor) {
            ("dynamic", Some(factor)) => ((length as f64 * factor) as usize).clamp(length, MAX_LENGTH.max(length)),
            _ => length,
        }
    }

    /// The positions of heads of a width, if nothing is lacking, where the model is for texts of a length.
    pub(super) fn rotary(&self, width: usize, theta: f64, length: usize) -> Rotary {
        let plain = Rotary::new(width, self.rope_theta.unwrap_or(theta));
        let factor = self.factor.unwrap_or(1.0);
        match self.rule() {
            "linear" => Rotary::from_frequencies(plain.frequencies().iter().map(|frequency| frequency / factor).collect()),
            "llama3" => Rotary::from_frequencies(plain.frequencies().iter().map(|frequency| self.llama3(*frequency)).collect()),
            "yarn" => self.yarn(&plain, self.rope_theta.unwrap_or(theta)),
            "dynamic" => plain.longer(length, Longer::Dynamic(factor)),
            "longrope" => self.longrope(&plain, length),
            _ => plain,
        }
    }

    /// Ding et al. (2024), "LongRoPE: Extending LLM context window beyond 2 million tokens": a factor a pair, others in longer texts.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes in configurations are below 2^31"
    )]
    fn longrope(&self, plain: &Rotary, length: usize) -> Rotary {
        let old = self.original_max_position_embeddings.expect("checked when the configuration was read");
        let slower = |factors: &Option<Vec<f64>>| {
            let pairs = plain.frequencies().iter().zip(factors.iter().flatten());
            pairs.map(|(frequency, factor)| frequency / factor).collect::<Vec<f64>>()
        };
        let factor = self.factor.unwrap_or(length as f64 / old);
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / old.ln()).sqrt() };
        Rotary::from_frequencies(slower(&self.short_factor))
            .gain(self.attention_factor.unwrap_or(usual))
            .longer(old as usize, Longer::By(slower(&self.long_factor)))
    }

    /// Peng et al. (2023), "YaRN: Efficient context window extension of large language models": long waves are stretched, short ones stay,
    /// between is between by the number of the pair.
    fn yarn(&self, plain: &Rotary, theta: f64) -> Rotary {
        let number = |given: Option<f64>| given.expect("checked when the configuration was read");
        let (factor, length) = (number(self.factor), number(self.original_max_position_embeddings));
        let other_than_zero = |given: Option<f64>, usual: f64| given.filter(|number| *number != 0.0).unwrap_or(usual);
        let width = f64::from(u32::try_from(2 * plain.frequencies().len()).unwrap_or(u32::MAX));
        // The pair that turns so often in the old length.
        let pair = |turns: f64| width * (length / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (low, high) = (pair(other_than_zero(self.beta_fast, 32.0)), pair(other_than_zero(self.beta_slow, 1.0)));
        let (low, high) = if self.truncate.unwrap_or(true) { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, mut high) = (low.max(0.0), high.min(width - 1.0));
        if low == high {
            high += 0.001;
        }
        let scaled = |(pair, frequency): (u32, &f64)| {
            let stretched = ((f64::from(pair) - low) / (high - low)).clamp(0.0, 1.0);
            frequency / factor * stretched + frequency * (1.0 - stretched)
        };
        let gain = |share: f64| if factor <= 1.0 { 1.0 } else { 0.1 * share * factor.ln() + 1.0 };
        let usual = match (self.mscale, self.mscale_all_dim) {
            (Some(one), Some(all)) if one != 0.0 && all != 0.0 => gain(one) / gain(all),
            _ => gain(1.0),
        };
        Rotary::from_frequencies((0..).zip(plain.frequencies()).map(scaled).collect())
            .gain(self.attention_factor.unwrap_or(usual))
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
