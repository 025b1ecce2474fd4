//! What a person sees while things are built: a spinner on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Without a terminal a line that a step still runs is printed this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Terminal,
    Plain,
    Quiet,
}

/// Shows steps on stderr.
#[derive(Debug, Clone)]
pub struct Progress {
    mode: Mode,
}

impl Default for Progress {
    fn default() -> Self {
        Self::stderr()
    }
}

impl Progress {
    /// Spinners when stderr is a terminal, plain lines otherwise.
    pub fn stderr() -> Self {
        Self { mode: if std::io::stderr().is_terminal() { Mode::Terminal } else { Mode::Plain } }
    }

    /// Nothing is shown.
    pub fn quiet() -> Self {
        Self { mode: Mode::Quiet }
    }

    /// One line of information.
    pub fn note(&self, text: &str) {
        if self.mode != Mode::Quiet {
            eprintln!("  {text}");
        }
    }

    /// Begins a step; it is shown as running until the returned value is finished or dropped.
    pub fn step(&self, text: &str) -> Step {
        let started = Instant::now();
        let bar = (self.mode == Mode::Terminal).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let ticker = (self.mode == Mode::Plain).then(|| {
            eprintln!("  {text} ...");
            let text = text.to_owned();
            tokio::runtime::Handle::try_current().ok().map(|runtime| {
                runtime.spawn(async move {
                    loop {
                        tokio::time::sleep(PLAIN_INTERVAL).await;
                        eprintln!("  {text}: still at it after {}", human(started.elapsed()));
                    }
                })
            })
        });
        Step { text: text.to_owned(), started, mode: self.mode, bar, ticker: ticker.flatten() }
    }
}

/// A running step of [`Progress`]. Dropping it without [`Step::done`] takes the spinner away silently.
#[derive(Debug)]
pub struct Step {
    text: String,
    started: Instant,
    mode: Mode,
    bar: Option<ProgressBar>,
    ticker: Option<tokio::task::JoinHandle<()>>,
}

impl Step {
    /// Ends the step and prints how long it took.
    pub fn done(self) {
        let line = format!("  {}: done in {}", self.text, human(self.started.elapsed()));
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.mode != Mode::Quiet {
            eprintln!("{line}");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub fn human(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", elapsed.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        _ => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(human(Duration::from_millis(420)), "0.4 s");
        assert_eq!(human(Duration::from_secs(12)), "12 s");
        assert_eq!(human(Duration::from_secs(185)), "3 min 05 s");
    }
}
