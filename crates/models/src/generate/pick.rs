//! The next token from scores: the likeliest, or one drawn by chance that is a function of a key.

use graver_ir::philox::philox4x32_10;
use graver_ir::{Diag, Error};

use super::Generation;

impl Generation {
    /// The probability of every token, where scores are these and the text so far has these tokens: what [`Generation::do_sample`] draws
    /// by, 0 for what is left out. As in transformers: repeated tokens, then the temperature, the likeliest few, the likeliest share.
    ///
    /// ```
    /// use graver_models::Generation;
    /// let two = Generation { top_k: 2, ..Generation::default() };
    /// assert_eq!(two.probabilities(&[1.0, 3.0, 3.0, 2.0], &[0]), [0.0, 0.5, 0.5, 0.0]);
    /// ```
    #[must_use]
    pub fn probabilities(&self, scores: &[f64], tokens: &[u32]) -> Vec<f64> {
        let mut scores = self.penalised(scores, tokens);
        scores.iter_mut().for_each(|score| *score /= self.temperature);
        if self.top_k > 0 && self.top_k < scores.len() {
            let mut sorted = scores.clone();
            let (_, least, _) = sorted.select_nth_unstable_by(self.top_k - 1, |x, y| y.total_cmp(x));
            let least = *least;
            // Whoever is as likely as the last of them stays.
            scores.iter_mut().filter(|score| **score < least).for_each(|score| *score = f64::NEG_INFINITY);
        }
        let mut shares = softmax(&scores);
        if self.top_p < 1.0 {
            keep_share(&mut shares, self.top_p);
        }
        shares
    }

    /// The token that comes next; `at` is the text's place and the number of tokens that were picked before.
    pub(super) fn pick(&self, scores: &[f64], tokens: &[u32], at: (usize, usize)) -> Result<u32, Error> {
        if scores.iter().any(|score| score.is_nan()) {
            return Err(Diag::new("the model's scores are not numbers: no token is the next").op("generate").into());
        }
        let place = if self.do_sample && self.temperature > 0.0 {
            draw(&self.probabilities(scores, tokens), chance(self.seed, at))
        } else {
            likeliest(&self.penalised(scores, tokens))
        };
        Ok(u32::try_from(place).expect("a vocabulary has at most 2^31 tokens"))
    }

    fn penalised(&self, scores: &[f64], tokens: &[u32]) -> Vec<f64> {
        let mut penalised = scores.to_vec();
        for token in tokens {
            // From the scores as they were: a token that occurs twice is no worse.
            if let Some(score) = usize::try_from(*token).ok().and_then(|token| scores.get(token).map(|score| (token, score))) {
                let (token, score) = score;
                penalised[token] = if *score < 0.0 { score * self.repetition_penalty } else { score / self.repetition_penalty };
            }
        }
        penalised
    }
}

/// Shares of one whole, the exponentials of scores.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut shares: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
    make_whole(&mut shares);
    shares
}

fn make_whole(shares: &mut [f64]) {
    let whole: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= whole);
}

/// Leaves the greatest, as few as together have this share: Holtzman et al. (2020), "The curious case of neural text degeneration".
fn keep_share(shares: &mut [f64], wanted: f64) {
    let mut order: Vec<usize> = (0..shares.len()).filter(|place| shares[*place] > 0.0).collect();
    order.sort_by(|x, y| shares[*y].total_cmp(&shares[*x]));
    let mut before = 0.0;
    for place in order {
        let share = shares[place];
        if before >= wanted {
            shares[place] = 0.0;
        }
        before += share;
    }
    make_whole(shares);
}

/// The first of the greatest.
fn likeliest(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best })
}

/// The place into which a number in `0..1` falls.
fn draw(shares: &[f64], chance: f64) -> usize {
    let mut end = 0.0;
    let mut last = 0;
    for (place, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
        (end, last) = (end + share, place);
        if chance < end {
            break;
        }
    }
    // Rounded shares may come to a little less than 1.
    last
}

/// A number in `0..1`: a function of a seed, a text and a token.
fn chance(seed: u64, (text, token): (usize, usize)) -> f64 {
    let words = |x: u64| [(x & 0xffff_ffff) as u32, (x >> 32) as u32];
    let number = |x: usize| u64::try_from(x).expect("a usize has at most 64 bits");
    let ([token, _], [text, _]) = (words(number(token)), words(number(text)));
    let [low, high, ..] = philox4x32_10([token, text, 0, 0], words(seed));
    let bits = u64::from(high) << 32 | u64::from(low);
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let chance = (bits >> 11) as f64 / (1u64 << 53) as f64;
    chance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_probabilities() {
        let options = Generation { do_sample: true, top_k: 0, ..Generation::default() };
        let scores = [0.1f64, 0.2, 0.0, 0.7].map(f64::ln);
        let mut counts = [0u32; 4];
        for token in 0..4000 {
            let picked = options.pick(&scores, &[], (1, token)).expect("numbers");
            counts[picked as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([400.0, 800.0, 0.0, 2800.0]) {
            // Four deviations of the widest.
            assert!((f64::from(count) - expected).abs() <= 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn chance_is_of_the_seed_the_text_and_the_token() {
        let all = [(0, (0, 0)), (1, (0, 0)), (0, (1, 0)), (0, (0, 1)), (1 << 32, (0, 0))];
        let drawn: Vec<f64> = all.iter().map(|(seed, at)| chance(*seed, *at)).collect();
        assert!(drawn.iter().all(|x| (0.0..1.0).contains(x)));
        assert!((0..drawn.len()).all(|place| !drawn[..place].contains(&drawn[place])), "{drawn:?}");
    }

    #[test]
    fn one_is_always_left() {
        let narrow = Generation { do_sample: true, top_k: 1, top_p: 1e-9, temperature: 1e-3, ..Generation::default() };
        let scores = [1.0, 5.0, -2.0, 4.99];
        assert_eq!(narrow.probabilities(&scores, &[]), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(draw(&[0.5, 0.5 - 1e-16, 0.0], 1.0 - 1e-17), 1);
        let error = narrow.pick(&[1.0, f64::NAN], &[], (0, 0)).expect_err("no number").to_string();
        assert!(error.contains("not numbers"), "{error}");
    }
}
