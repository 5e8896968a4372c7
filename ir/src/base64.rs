//! Bytes as text: base64 with padding (RFC 4648, section 4), one text for every sequence of bytes.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the digits.
pub(crate) fn encode(bytes: &[u8], text: &mut String) {
    text.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
}

/// What [`encode`] gives, and nothing else, back to bytes.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let (chunks, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(chunks.len() * 3);
    for (place, chunk) in chunks.iter().enumerate() {
        let padding = chunk.iter().rev().take_while(|digit| **digit == b'=').count();
        if padding > 2 || (padding > 0 && place + 1 < chunks.len()) {
            return None;
        }
        let mut word = 0u32;
        for digit in &chunk[..4 - padding] {
            word = word << 6 | u32::from(digit_value(*digit)?);
        }
        let word = (word << (6 * padding)).to_be_bytes();
        // The bits beyond the last byte are zero, so that every array has one text.
        if word[4 - padding..].iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(&word[1..4 - padding]);
    }
    Some(bytes)
}

const fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
