//! Tables, whole where there is room and as wide as the terminal where they are printed to one.

use std::fmt;
use std::ops::Range;

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};

use super::{ReportError, Stream};

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Words, set to the left.
    Text(&'static str),
    /// Figures, set to the right so that their digits line up.
    Number(&'static str),
}

/// A table with a header.
///
/// On a terminal that is too narrow texts are wrapped, where several columns have some, and words and figures never
/// are: what does not fit goes below, into a part that begins with the columns by which rows are known.
///
/// ```
/// use roadstead_load::report::{Column, Table, count};
///
/// let mut table = Table::new(&[Column::Text("op"), Column::Number("right")]);
/// table.row(["fetch".to_owned(), count(20_000)]);
/// assert!(table.to_string().contains("20,000 │"));
/// ```
#[derive(Debug)]
pub struct Table {
    whole: comfy_table::Table,
    /// How wide each column's words are at least, if it is one that is wrapped.
    wrapped: Vec<Option<usize>>,
    /// So many columns are in each part.
    keys: usize,
}

impl Table {
    /// A table without rows, which are known by the words in their first columns.
    pub fn new(columns: &[Column]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(columns.iter().map(|column| match column {
            Column::Text(title) | Column::Number(title) => Cell::new(title),
        }));
        for (column, kind) in table.column_iter_mut().zip(columns) {
            column.set_cell_alignment(match kind {
                Column::Text(_) => CellAlignment::Left,
                Column::Number(_) => CellAlignment::Right,
            });
        }
        let texts = columns.iter().filter(|column| matches!(column, Column::Text(_))).count();
        let wrapped = columns.iter().map(|column| match column {
            Column::Text(title) if texts > 1 => Some(longest_word(title)),
            _ => None,
        });
        Self { whole: table, wrapped: wrapped.collect(), keys: texts }
    }

    /// The same table, whose rows are known by so many columns.
    pub fn known_by(self, keys: usize) -> Self {
        Self { keys, ..self }
    }

    /// Adds a row, one cell for each column.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let cells: Vec<String> = cells.into_iter().collect();
        for (wrapped, cell) in self.wrapped.iter_mut().zip(&cells) {
            *wrapped = wrapped.map(|longest| longest.max(longest_word(cell)));
        }
        self.whole.add_row(cells);
    }

    /// Prints the table and a newline.
    pub fn print(&self, stream: Stream) -> Result<(), ReportError> {
        stream.print(&stream.width().map_or_else(|| self.to_string(), |width| self.within(width)))
    }

    /// The table in lines of so many characters, if that can be.
    fn within(&self, width: u16) -> String {
        let parts: Vec<String> =
            self.parts(width.into()).into_iter().map(|part| self.part(part, width)).collect();
        parts.join("\n")
    }

    /// The columns of each part beside the keys.
    fn parts(&self, width: usize) -> Vec<Range<usize>> {
        let whole = self.whole.column_max_content_widths().into_iter().map(usize::from);
        // A cell has a line and two spaces.
        let each: Vec<usize> =
            whole.zip(&self.wrapped).map(|(whole, wrapped)| wrapped.unwrap_or(whole) + 3).collect();
        let keys = 1 + each[..self.keys].iter().sum::<usize>();
        let (mut parts, mut first, mut used) = (Vec::new(), self.keys, keys);
        for (at, each) in each.iter().enumerate().skip(self.keys) {
            if used + each > width && at > first {
                parts.push(first..at);
                (first, used) = (at, keys);
            }
            used += each;
        }
        parts.push(first..each.len());
        parts
    }

    fn part(&self, shown: Range<usize>, width: u16) -> String {
        let mut part = self.whole.clone();
        part.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for (at, (column, wrapped)) in part.column_iter_mut().zip(&self.wrapped).enumerate() {
            if at >= self.keys && !shown.contains(&at) {
                column.set_constraint(ColumnConstraint::Hidden);
            } else if let Some(longest) = *wrapped {
                // With the two spaces.
                let least = u16::try_from(longest + 2).unwrap_or(u16::MAX);
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
            }
        }
        part.to_string()
    }
}

fn longest_word(text: &str) -> usize {
    text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or(0)
}

/// The table as wide as it is.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::count;

    #[test]
    fn a_table_lines_its_figures_up() {
        let mut table = Table::new(&[Column::Text("op"), Column::Number("n")]);
        table.row(["fetch".into(), count(20_000)]);
        table.row(["search".into(), count(7)]);
        let text = table.to_string();
        assert!(text.contains("│ fetch  ┆ 20,000 │"), "{text}");
        assert!(text.contains("│ search ┆      7 │"), "{text}");
    }

    #[test]
    fn a_table_of_figures_is_folded_and_no_figure_is_cut() {
        const TITLES: [&str; 12] = [
            "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        ];
        let columns = [Column::Text("op"), Column::Number("level")].into_iter();
        let columns: Vec<Column> = columns.chain(TITLES.map(Column::Number)).collect();
        for keys in [1, 2] {
            let mut table = Table::new(&columns).known_by(keys);
            let figures = (0..13).map(|figure| count(1_000_000 + figure));
            table.row(["fetch direct".to_owned()].into_iter().chain(figures));
            for width in [40, 80, 300] {
                let text = table.within(width);
                assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
                assert!((0..13).all(|figure| text.contains(&count(1_000_000 + figure))), "{text}");
                let parts = text.matches("fetch direct").count();
                assert_eq!(text.matches("1,000,000").count(), if keys == 2 { parts } else { 1 }, "{text}");
                assert_eq!(parts == 1, width == 300);
            }
            assert_eq!(table.within(300), table.to_string());
        }
    }

    #[test]
    fn a_table_that_just_fits_is_whole_and_folded_where_it_lacks_one_character() {
        let mut table = Table::new(&["op", "one", "two", "three"].map(Column::Number)).known_by(1);
        table.row(["fetch", "1,000", "2,000", "3,000"].map(str::to_owned));
        let whole = table.to_string();
        let width = whole.lines().next().unwrap().chars().count() as u16;
        assert_eq!(table.within(width), whole);
        let folded = table.within(width - 1);
        assert_eq!(folded.matches("fetch").count(), 2, "{folded}");
        assert_eq!(folded.matches("000").count(), 3, "{folded}");
        // However narrow: a part has a column.
        assert_eq!(table.parts(1), [1..2, 2..3, 3..4]);
    }

    #[test]
    fn a_table_of_words_is_wrapped() {
        let mut table = Table::new(&[Column::Text("model"), Column::Text("what it does")]);
        table.row(["epoll".into(), "words and more words ".repeat(10)]);
        let text = table.within(50);
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert_eq!(text.split_whitespace().filter(|word| *word == "more").count(), 10, "{text}");
        assert_eq!(text.matches("epoll").count(), 1);
    }

    #[test]
    fn no_word_of_a_table_is_broken_where_it_fits_beside_the_key() {
        let columns = ["model", "core", "runs here", "what it does"].map(Column::Text);
        let mut table = Table::new(&columns).known_by(1);
        let row = ["iterative", "blocking", "no: needs Windows", "finished and asynchronous, ".trim()];
        table.row(row.map(|cell| format!("{cell} ").repeat(3)));
        for width in 30..200 {
            let text = table.within(width);
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
            for word in row.iter().flat_map(|cell| cell.split(' ')).chain(["model", "here", "does"]) {
                assert!(text.contains(word), "{width}, {word}: {text}");
            }
        }
    }
}
