//! Tables as `kubectl` draws them: no lines, columns three spaces apart, colours on a terminal only.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};

/// How a cell is coloured on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// As wanted: green.
    Good,
    /// On its way: yellow.
    Waiting,
    /// Wrong: red.
    Bad,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    text: String,
    tone: Tone,
}

impl Field {
    /// A cell with a colour.
    pub(crate) fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Field {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// Text that shows something even where there is nothing to show, so that columns can be counted by scripts.
pub(crate) fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

/// Draws the rows below their headings. `colours` says whether tones become colours.
pub(crate) fn draw(headings: &[&str], rows: Vec<Vec<Field>>, colours: bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row.into_iter().map(cell));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    crate::output::lines(table.lines().map(|line| line.trim_end().to_owned()))
}

fn cell(field: Field) -> Cell {
    // A line break in a message would tear the row apart.
    let cell = Cell::new(field.text.replace(['\n', '\r', '\t'], " "));
    match field.tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Waiting => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        let rows = vec![
            vec!["a".into(), Field::new("True", Tone::Good), "x\ny".into()],
            vec!["longer-name".into(), Field::new("False", Tone::Bad), "".into()],
        ];
        assert_eq!(
            draw(&["NAME", "READY", "MESSAGE"], rows, false),
            "NAME          READY   MESSAGE\na             True    x y\nlonger-name   False\n"
        );
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let rows = || vec![vec![Field::new("True", Tone::Good)]];
        assert!(!draw(&["READY"], rows(), false).contains('\u{1b}'));
        assert!(draw(&["READY"], rows(), true).contains('\u{1b}'));
    }
}
