//! Numbers that depend on a parameter's path: weight decay for weights alone, a smaller rate for the encoder.

/// A number for each path: the last pattern that matches decides.
///
/// In a pattern `*` stands for any characters, dots too.
///
/// ```
/// use graver_nn::Rules;
/// let decay = Rules::new(0.0).with("*.weight", 0.01).with("*.norm?.weight", 0.0);
/// assert_eq!(decay.at("encoder.3.fc.weight"), 0.01);
/// assert_eq!(decay.at("encoder.3.norm1.weight"), 0.0);
/// assert_eq!(decay.at("encoder.3.fc.bias"), 0.0);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    otherwise: f64,
    rules: Vec<(String, f64)>,
}

impl Rules {
    /// One number for all paths.
    #[must_use]
    pub const fn new(otherwise: f64) -> Self {
        Self { otherwise, rules: Vec::new() }
    }

    /// Another number for the paths that a pattern matches: `*` stands for any characters, `?` for one.
    #[must_use]
    pub fn with(mut self, pattern: &str, value: f64) -> Self {
        self.rules.push((pattern.to_owned(), value));
        self
    }

    /// The number of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> f64 {
        self.rules.iter().rev().find(|(pattern, _)| matches(pattern, path)).map_or(self.otherwise, |(_, value)| *value)
    }

    /// The numbers: the one for all paths first.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        std::iter::once(self.otherwise).chain(self.rules.iter().map(|(_, value)| *value))
    }

    /// The patterns.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|(pattern, _)| pattern.as_str())
    }
}

/// Whether a pattern matches the whole of a text. Linear space, and time of the product of the lengths.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Whether the pattern so far matches the first `n` characters.
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for expected in pattern.chars() {
        ends = if expected == '*' { any_length(&ends) } else { one(&ends, |found| expected == '?' || expected == found, &text) };
    }
    ends[text.len()]
}

fn any_length(ends: &[bool]) -> Vec<bool> {
    let mut reached = false;
    ends.iter()
        .map(|end| {
            reached |= *end;
            reached
        })
        .collect()
}

fn one(ends: &[bool], fits: impl Fn(char) -> bool, text: &[char]) -> Vec<bool> {
    std::iter::once(false).chain(ends.iter().zip(text).map(|(end, found)| *end && fits(*found))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        let table = [
            ("*", "", true),
            ("*.weight", "fc.weight", true),
            ("*.weight", "weight", false),
            ("*weight", "weight", true),
            ("*.weight", "fc.weight.g", false),
            ("a.*.c", "a.b.b.c", true),
            ("a.?.c", "a.bb.c", false),
            ("a.?.c", "a.é.c", true),
            ("", "a", false),
            ("**", "abc", true),
            ("*a*b*", "xaxbx", true),
            ("*a*b*", "xbxax", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_last_rule_decides() {
        let rules = Rules::new(1.0).with("a*", 2.0).with("*b", 3.0);
        assert_eq!(["ab", "a", "c"].map(|path| rules.at(path)), [3.0, 2.0, 1.0]);
        assert_eq!(rules.patterns().collect::<Vec<_>>(), ["a*", "*b"]);
    }
}
