//! Tables after each act.

use comfy_table::{ContentArrangement, Table, presets};

/// Prints the rows below their headings.
pub(crate) fn print<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    println!("\n{}", draw(headings, rows));
}

fn draw<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_drawn() {
        let text = draw(
            ["member", "ready"],
            [["a".to_owned(), "yes".to_owned()], ["b".to_owned(), "no".to_owned()]],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[3].contains('a') && lines[4].contains("no"), "{text}");
    }
}
