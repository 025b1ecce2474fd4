//! The hash by which manifests and revisions are recognised.

use serde_json::Value;
use std::io::Write;

/// FNV-1a, 64 bits. Not for secrets or against attackers; it only has to be stable across releases, which std's hasher is not.
struct Fnv(u64);

impl Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Hash of a value's canonical JSON text: serde_json's maps are sorted, so equal values give equal texts.
pub(crate) fn hash(value: &Value) -> u64 {
    fnv(value).0
}

/// The same with `salt` behind the text, for another hash where two values share one.
pub(crate) fn salted_hash(value: &Value, salt: u64) -> u64 {
    let mut fnv = fnv(value);
    let _ = fnv.write(&salt.to_le_bytes());
    fnv.0
}

fn fnv(value: &Value) -> Fnv {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325);
    // Writing a Value into this writer can't fail: it has only string keys and the writer takes all bytes.
    let _ = serde_json::to_writer(&mut fnv, value);
    fnv
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_count() {
        assert_eq!(hash(&json!({"a": 1, "b": [2]})), hash(&json!({"b": [2], "a": 1})));
        assert_ne!(hash(&json!({"a": 1})), hash(&json!({"a": 2})));
        // FNV-1a of the text "1", worked out by hand from its definition.
        assert_eq!(hash(&json!(1)), 0xaf63_ac4c_8601_9afc);
    }

    #[test]
    fn a_salt_gives_another_hash() {
        assert_eq!(salted_hash(&json!(1), 7), 0xfcfa_0ffa_3b56_885b);
        assert_ne!(salted_hash(&json!(1), 0), salted_hash(&json!(1), 1));
    }
}
