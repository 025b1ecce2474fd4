//! Parsers for the values of flags. What they refuse is wrong usage.

use fedistio_crds::HumanDuration;
use std::{collections::BTreeMap, str::FromStr as _, time::Duration};

/// A time limit; none for `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

/// Parses `30s`, `2m`, a bare number of seconds, or `0` for no limit, as `kubectl --request-timeout` does.
pub(crate) fn limit(text: &str) -> Result<Limit, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Limit((seconds > 0).then(|| Duration::from_secs(seconds))));
    }
    HumanDuration::from_str(text)
        .map(|HumanDuration(duration)| Limit((!duration.is_zero()).then_some(duration)))
        .map_err(|error| error.to_string())
}

/// Parses the name of a member: a DNS label (RFC 1123), because it becomes Istio's cluster ID and a part of labels.
pub(crate) fn cluster_name(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let ends = !text.starts_with('-') && !text.ends_with('-');
    if !text.is_empty() && text.len() <= 63 && ends && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("use at most 63 lowercase letters, digits and '-', beginning and ending with a letter or digit"
            .to_owned())
    }
}

/// Labels of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels(pub(crate) BTreeMap<String, String>);

/// Parses `key=value,key=value`. Values may be empty; a key may be given once.
pub(crate) fn labels(text: &str) -> Result<Labels, String> {
    let mut labels = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?} has no '='; write key=value"))?;
        if !is_label_key(key) {
            return Err(format!("{key:?} is not a label key; write name or domain.example/name"));
        }
        if !value.is_empty() && !is_label_name(value) {
            return Err(format!(
                "{value:?} is not a label value; use at most 63 letters, digits, '-', '_' and '.', \
                 beginning and ending with a letter or digit"
            ));
        }
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the label {key} is given twice"));
        }
    }
    Ok(Labels(labels))
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_name(name),
        None => is_label_name(key),
    }
}

fn is_label_name(name: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Is `name` a DNS subdomain (RFC 1123), as names of most Kubernetes objects are?
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|part| cluster_name(part).is_ok())
}

/// Parses the name of a Kubernetes object: a DNS subdomain.
pub(crate) fn object_name(text: &str) -> Result<String, String> {
    if is_subdomain(text) {
        Ok(text.to_owned())
    } else {
        Err("use lowercase letters, digits, '-' and '.', beginning and ending with a letter or digit"
            .to_owned())
    }
}

/// Parses the address of an API server.
pub(crate) fn server(text: &str) -> Result<String, String> {
    let uri: hyper::Uri = text.parse().map_err(|error| format!("{error}; write https://host:port"))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err("an API server's address is https://host:port".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_no_limit() {
        assert_eq!(limit("0"), Ok(Limit(None)));
        assert_eq!(limit("0s"), Ok(Limit(None)));
        assert_eq!(limit("15"), Ok(Limit(Some(Duration::from_secs(15)))));
        assert_eq!(limit("1m30s"), Ok(Limit(Some(Duration::from_secs(90)))));
        assert!(limit("soon").is_err());
        assert!(limit("-1").is_err());
        assert!(limit("").is_err());
    }

    #[test]
    fn labels_follow_the_rules_of_kubernetes() {
        let parsed = labels("env=prod,topology.example.com/tier=,x_y.z=A-1").unwrap().0;
        assert_eq!(parsed.len(), 3);
        assert_eq!(parsed["topology.example.com/tier"], "");
        assert_eq!(labels("").unwrap().0.len(), 0);
        for wrong in ["env", "=x", "-a=b", "a=b c", "UPPER.dom/x=y=z", "Up/x=y", "a=-", "a=1,a=1", "a/b/c=d"]
        {
            assert!(labels(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        assert!(cluster_name("east-1").is_ok());
        for wrong in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(cluster_name(wrong).is_err(), "{wrong}");
        }
        assert!(object_name("east-1.kubeconfig").is_ok());
        assert!(object_name("a..b").is_err());
    }

    #[test]
    fn a_server_is_an_https_address() {
        assert_eq!(server("https://10.0.0.1:6443/").unwrap(), "https://10.0.0.1:6443");
        for wrong in ["http://x", "10.0.0.1:6443", "https://", "x y", ""] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
