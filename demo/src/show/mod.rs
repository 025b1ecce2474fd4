//! What the audience sees: headings, commands, tables and progress. Results go to stdout, progress to stderr.

pub(crate) mod command;
pub(crate) mod phases;
pub(crate) mod table;

use std::path::Path;

/// Begins an act.
pub(crate) fn act(number: usize, title: &str) {
    let heading = format!("Act {number}: {title}");
    println!("\n{heading}\n{}", "=".repeat(heading.chars().count()));
}

/// One line that tells what happens.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// The commands with which to look around at this point.
pub(crate) fn look_around(commands: &[String]) {
    println!("\nLook around:");
    for command in commands {
        println!("  {command}");
    }
}

/// A path as one would type it: relative to the working folder where it is below that.
pub(crate) fn path(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    relative.as_deref().unwrap_or(path).display().to_string()
}

/// A time span as people read it.
pub(crate) fn span(time: std::time::Duration) -> String {
    if time.as_secs() == 0 {
        format!("{:.0} ms", time.as_secs_f64() * 1000.0)
    } else {
        fedistio_tests::progress::human(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_working_folder_are_shown_relative_to_it() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path(&here.join("a/b")), "a/b");
        assert_eq!(path(Path::new("/nowhere/else")), "/nowhere/else");
    }

    #[test]
    fn short_spans_are_shown_in_milliseconds() {
        assert_eq!(span(std::time::Duration::from_micros(7400)), "7 ms");
        assert_eq!(span(std::time::Duration::from_millis(2300)), "2.3 s");
    }
}
