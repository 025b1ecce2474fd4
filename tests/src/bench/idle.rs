//! Requests of all clusters while nothing happens, from the servers' own metrics.

use super::world::World;
use anyhow::{Context as _, Result};
use std::{collections::BTreeMap, time::Duration};

/// Requests by verb.
pub(super) type Requests = BTreeMap<String, f64>;

/// What was asked of the host and of all members together within `time`.
pub(super) async fn requests(world: &World, time: Duration) -> Result<(Requests, Requests)> {
    let before = (host(world).await?, members(world).await?);
    tokio::time::sleep(time).await;
    Ok((less(host(world).await?, &before.0), less(members(world).await?, &before.1)))
}

/// `with` without what happens anyway, per minute; verbs with nothing left out.
pub(super) fn added(with: Requests, without: &Requests, time: Duration) -> Requests {
    let mut rest = less(with, without);
    for count in rest.values_mut() {
        *count = (*count * 60.0 / time.as_secs_f64()).round();
    }
    rest.retain(|_, count| *count >= 1.0);
    rest
}

fn less(mut from: Requests, what: &Requests) -> Requests {
    for (verb, count) in &mut from {
        *count = (*count - what.get(verb).copied().unwrap_or(0.0)).max(0.0);
    }
    from
}

async fn host(world: &World) -> Result<Requests> {
    of(&world.bed.host).await
}

async fn members(world: &World) -> Result<Requests> {
    let mut sum = Requests::new();
    for member in &world.bed.members {
        for (verb, count) in of(member).await? {
            *sum.entry(verb).or_default() += count;
        }
    }
    Ok(sum)
}

async fn of(cluster: &crate::Cluster) -> Result<Requests> {
    let request = hyper::Request::get("/metrics").body(Vec::new()).context("a bad request")?;
    let text = cluster.client().request_text(request).await;
    Ok(parse(&text.with_context(|| format!("{} does not answer", cluster.name()))?))
}

fn parse(text: &str) -> Requests {
    let mut requests = Requests::new();
    for line in text.lines() {
        let Some((labels, value)) =
            line.strip_prefix("apiserver_request_total{").and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let verb = labels.split(',').find_map(|pair| pair.strip_prefix("verb=\"")?.strip_suffix('"'));
        if let (Some(verb), Ok(count)) = (verb, value.trim().parse::<f64>()) {
            *requests.entry(verb.to_owned()).or_default() += count;
        }
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_verb_and_subtracts() {
        let text = "apiserver_request_total{code=\"200\",resource=\"pods\",verb=\"GET\",version=\"v1\"} 3\n\
            apiserver_request_total{code=\"404\",resource=\"pods\",verb=\"GET\",version=\"v1\"} 1e+01\n\
            apiserver_request_total{code=\"200\",resource=\"pods\",verb=\"WATCH\",version=\"v1\"} 2\n\
            other{verb=\"GET\"} 9\n";
        let read = parse(text);
        assert_eq!(read, Requests::from([("GET".to_owned(), 13.0), ("WATCH".to_owned(), 2.0)]));
        let without = Requests::from([("GET".to_owned(), 3.0), ("WATCH".to_owned(), 2.0)]);
        let rest = added(read, &without, Duration::from_secs(30));
        assert_eq!(rest, Requests::from([("GET".to_owned(), 20.0)]));
    }
}
