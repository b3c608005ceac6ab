//! VERSION: which versions are spoken.

use serde_json::{Value, json};

use crate::protocol::{Failure, SUPPORTED, Version};

/// The answer. `question` is `{"cniVersion": ...}`, which comes back in it; one that is no such object, or none, is
/// answered all the same: whoever asks does not know yet what we understand.
///
/// # Errors
/// None.
pub(crate) fn version(question: Option<Vec<u8>>) -> Result<Value, Failure> {
    let asked: Option<Value> = question.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let asked = asked.as_ref().and_then(|asked| asked.get("cniVersion")?.as_str()).filter(|text| !text.is_empty());
    let supported = SUPPORTED.map(|(_, name)| name);
    Ok(json!({"cniVersion": asked.unwrap_or(Version::LATEST.as_str()), "supportedVersions": supported}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_asked_with_comes_back() {
        let supported = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        for (question, version) in [
            (None, "1.1.0"),
            (Some(""), "1.1.0"),
            (Some("nonsense"), "1.1.0"),
            (Some("{}"), "1.1.0"),
            (Some(r#"{"cniVersion":7}"#), "1.1.0"),
            (Some(r#"{"cniVersion":""}"#), "1.1.0"),
            (Some(r#"{"cniVersion":"0.4.0"}"#), "0.4.0"),
            (Some(r#"{"cniVersion":"9.9.9","name":"x"}"#), "9.9.9"),
        ] {
            let answer = super::version(question.map(|text| text.as_bytes().to_vec())).unwrap();
            assert_eq!(answer, json!({"cniVersion": version, "supportedVersions": supported}));
        }
    }
}
