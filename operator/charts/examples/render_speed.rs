//! Measures how long a chart takes to render: parsed once and rendered often, and, if a helm binary is given, against helm.
//!
//! `cargo run --release -p fedistio-charts --example render_speed -- CHART_DIR [HELM]`

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use fedistio_charts::{Capabilities, Chart, CompiledChart, ReleaseOptions};

const RUNS: usize = 200;
const HELM_RUNS: usize = 10;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: render_speed CHART_DIR [HELM]")?;
    let helm = args.next();
    let start = Instant::now();
    let compiled = CompiledChart::new(Chart::from_dir(&dir)?)?;
    println!("load and parse: {:?}", start.elapsed());
    let release = ReleaseOptions::install("istiod", "istio-system");
    let capabilities = Capabilities::new("v1.34.0");
    let values = serde_json::Value::Null;
    let mut times = Vec::with_capacity(RUNS);
    let mut bytes = 0;
    for _ in 0..RUNS {
        let start = Instant::now();
        let rendered = compiled.render(&release, &values, &capabilities)?;
        times.push(start.elapsed());
        bytes = rendered.manifests.iter().map(|manifest| manifest.text.len()).sum();
    }
    let here = median(times);
    println!("render, parsed objects included: {here:?} (median of {RUNS}, {bytes} bytes)");
    let Some(helm) = helm else { return Ok(()) };
    let mut times = Vec::with_capacity(HELM_RUNS);
    for _ in 0..HELM_RUNS {
        let start = Instant::now();
        let status = Command::new(&helm)
            .args(["template", "istiod", &dir, "-n", "istio-system"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            return Err("helm failed".into());
        }
        times.push(start.elapsed());
    }
    let helm = median(times);
    println!(
        "helm process: {helm:?} (median of {HELM_RUNS}), {:.1} times as long",
        helm.as_secs_f64() / here.as_secs_f64()
    );
    Ok(())
}
