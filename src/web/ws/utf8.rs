//! Bytes to text in pieces: a character that is split between two of them waits for its rest.
//!
//! What is not UTF-8 becomes U+FFFD, as `String::from_utf8_lossy` would have it of the whole.

/// One stream of bytes, such as a program's output.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a character, at most three bytes.
    held: Vec<u8>,
}

impl Decoder {
    /// The text that is complete with `bytes`; may be empty.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        let mut text = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    // Just found to be so; nothing is replaced.
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(wrong) = error.error_len() else {
                        self.held = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[wrong..];
                }
            }
        }
    }

    /// What a stream that has ended owes: a character that was never completed.
    #[must_use]
    pub fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.held).is_empty() {
            ""
        } else {
            "\u{FFFD}"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_it_is_cut_the_text_is_the_same() {
        let whole = "aé€😀 z".as_bytes();
        for size in 1..=whole.len() {
            let mut decoder = Decoder::default();
            let mut text = String::new();
            for piece in whole.chunks(size) {
                let part = decoder.push(piece);
                assert!(
                    !part.contains(char::REPLACEMENT_CHARACTER),
                    "{size}: {part}"
                );
                text.push_str(&part);
            }
            text.push_str(decoder.finish());
            assert_eq!(text.as_bytes(), whole, "{size}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_as_in_the_whole() {
        for bytes in [
            &b"a\xffb"[..],
            b"\xf0\x9f\x98",
            b"\xc3\xc3\xa9",
            b"\xed\xa0\x80",
            b"\xf0\x9f\xff\xf0\x9f\x98\x80",
        ] {
            let wanted = String::from_utf8_lossy(bytes);
            for size in 1..=bytes.len() {
                let mut decoder = Decoder::default();
                let mut text: String = bytes.chunks(size).map(|p| decoder.push(p)).collect();
                text.push_str(decoder.finish());
                assert_eq!(text, wanted, "{bytes:?} in pieces of {size}");
            }
        }
    }
}
