//! The last of a shell's output, addressed by how much came before it.
//!
//! Viewers read from it at their own pace, and whoever comes back reads on where it left off.

use std::collections::VecDeque;

/// See the module.
#[derive(Debug)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    /// How much is offered to who comes.
    offered: usize,
    /// How much more is kept, for what is written between someone's coming and the first look.
    spare: usize,
    /// How much was ever written.
    end: u64,
}

impl Ring {
    /// One that offers at most that many bytes, of which none is forgotten before `spare` more
    /// were written.
    pub(super) fn new(offered: usize, spare: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            offered,
            spare,
            end: 0,
        }
    }

    /// The offset behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The offset of the oldest byte that is kept.
    pub(super) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Adds output, and forgets the oldest beyond what is kept.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.end += chunk.len() as u64;
        let kept = self.offered + self.spare;
        let chunk = &chunk[chunk.len().saturating_sub(kept)..];
        let over = (self.bytes.len() + chunk.len()).saturating_sub(kept);
        self.bytes.drain(..over);
        // By itself it would grow to the next power of two.
        let length = self.bytes.len() + chunk.len();
        if length > self.bytes.capacity() {
            let wanted = (self.bytes.capacity() * 2).clamp(length, kept);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend(chunk);
    }

    /// At most `most` bytes from `at` on; what is forgotten is skipped.
    pub(super) fn read(&self, at: u64, most: usize) -> Vec<u8> {
        let skip = at.saturating_sub(self.start()).min(self.bytes.len() as u64);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let length = most.min(self.bytes.len() - skip);
        let (front, back) = self.bytes.as_slices();
        let mut found = Vec::with_capacity(length);
        found.extend_from_slice(&front[skip.min(front.len())..(skip + length).min(front.len())]);
        let behind = |at: usize| at.saturating_sub(front.len());
        found.extend_from_slice(&back[behind(skip)..behind(skip + length)]);
        found
    }

    /// Where someone begins who has seen everything up to `since`, or nothing.
    pub(super) fn begin(&self, since: Option<u64>) -> u64 {
        let oldest = self.end.saturating_sub(self.offered as u64);
        match since {
            Some(since) if (oldest..=self.end).contains(&since) => since,
            _ if oldest == 0 => 0,
            // Not in the middle of a line, which may be the middle of a character or an escape
            // sequence; one without an end is shown all the same.
            _ => {
                let spared = self.bytes.len().saturating_sub(self.offered);
                let line = self.bytes.range(spared..).position(|&byte| byte == b'\n');
                let skip = line.map_or(0, |at| at as u64 + 1);
                oldest + skip
            }
        }
    }
}

/// How many bytes from the beginning are whole characters: a character of UTF-8 that is cut at the
/// end does not count. What is not UTF-8 at all counts as it is.
pub(super) fn whole(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for (at, &byte) in bytes.iter().enumerate().skip(tail).rev() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if bytes.len() - at < length {
            at
        } else {
            bytes.len()
        };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_is_kept_and_offsets_go_on() {
        let mut ring = Ring::new(4, 0);
        ring.push(b"abc");
        ring.push(b"defgh");
        assert_eq!((ring.start(), ring.end()), (4, 8));
        assert_eq!(ring.read(6, 10), b"gh");
        assert_eq!(ring.read(0, 2), b"ef");
        assert_eq!(ring.read(8, 2), b"");
        ring.push(b"0123456789");
        assert_eq!(ring.read(14, 10), b"6789");
    }

    #[test]
    fn who_comes_back_reads_on() {
        let mut ring = Ring::new(8, 4);
        ring.push(b"one\ntwo");
        assert_eq!(ring.begin(None), 0);
        assert_eq!(ring.begin(Some(3)), 3);
        assert_eq!(ring.begin(Some(7)), 7);
        // Another shell's offset.
        assert_eq!(ring.begin(Some(8)), 0);
        ring.push(b"\nthree");
        assert_eq!(ring.start(), 1);
        assert_eq!(ring.read(4, 8), b"two\nthre", "kept for who came before");
        assert_eq!(ring.begin(Some(4)), 8, "from the first whole line");
        assert_eq!(ring.begin(Some(5)), 5);
    }

    #[test]
    fn a_character_is_not_cut() {
        let text = "aä€😀".as_bytes();
        let ends = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        for (length, end) in ends.into_iter().enumerate() {
            assert_eq!(whole(&text[..length]), end, "{length}");
        }
        assert_eq!(whole(b"\xff\xff"), 2);
        assert_eq!(whole(b"\x80\x80\x80\x80"), 4);
        assert_eq!(whole(b"a\xc3"), 1);
    }
}
