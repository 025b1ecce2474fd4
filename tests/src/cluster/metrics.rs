//! Counters from the API server's own metrics.

use std::collections::BTreeMap;

/// Sums of `apiserver_request_total` for writes, by verb and resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WriteRequests {
    /// `(verb, resource)` → requests since the server started; verbs as the metric has them: `POST`, `PUT`, `PATCH`, `APPLY`, `DELETE`.
    pub counts: BTreeMap<(String, String), u64>,
}

impl WriteRequests {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// What was added since `before`; a restarted server counts from zero again.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().filter_map(|(key, now)| {
            let added = now.saturating_sub(before.counts.get(key).copied().unwrap_or(0));
            (added > 0).then(|| (key.clone(), added))
        });
        Self { counts: counts.collect() }
    }
}

const WRITES: [&str; 6] = ["POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"];

/// Reads the text format of Prometheus.
pub(super) fn write_requests(text: &str) -> WriteRequests {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("apiserver_request_total{") else { continue };
        let Some((labels, value)) = rest.rsplit_once("} ") else { continue };
        let label = |name: &str| {
            labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
        };
        let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
        if !WRITES.contains(&verb) {
            continue;
        }
        let resource = match label("subresource") {
            None | Some("") => resource.to_owned(),
            Some(subresource) => format!("{resource}/{subresource}"),
        };
        // Counters are printed as floats; whole ones below 2^53.
        let value = value.split_whitespace().next().and_then(whole).unwrap_or(0);
        *counts.entry((verb.to_owned(), resource)).or_insert(0) += value;
    }
    WriteRequests { counts }
}

/// `12`, `1.2e+06`.
fn whole(text: &str) -> Option<u64> {
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let (mantissa, exponent) = text.split_once("e+")?;
    let exponent: usize = exponent.parse().ok()?;
    let (int, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = exponent.checked_sub(fraction.len())?;
    format!("{int}{fraction}{}", "0".repeat(zeros)).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP apiserver_request_total x\n\
        apiserver_request_total{code=\"201\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 3\n\
        apiserver_request_total{code=\"409\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1\n\
        apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"status\",verb=\"APPLY\",version=\"v1\"} 1.25e+06\n\
        apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"cluster\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 9\n";

    #[test]
    fn sums_writes_only() {
        let read = write_requests(TEXT);
        assert_eq!(read.counts[&("POST".into(), "pods".into())], 4);
        assert_eq!(read.counts[&("APPLY".into(), "pods/status".into())], 1_250_000);
        assert_eq!(read.total(), 1_250_004);
        assert_eq!(read.since(&read).total(), 0);
    }
}
