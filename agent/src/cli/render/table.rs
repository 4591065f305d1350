//! Tables without borders.

use comfy_table::{CellAlignment, LineStyle, TableStyle};

use super::Style;

/// A column by its header.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Aligned left.
    Text(&'static str),
    /// Aligned right.
    Number(&'static str),
}

/// A table that is being filled.
pub(super) struct Table {
    table: comfy_table::Table,
    columns: Vec<Column>,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        let mut table = comfy_table::Table::new();
        table.set_header(columns.iter().map(|column| match column {
            Column::Text(name) | Column::Number(name) => *name,
        }));
        Self { table, columns: columns.to_vec() }
    }

    /// Adds a row with one cell per column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        // A line break or a control character in a peer's message must not break the table.
        let clean =
            |cell: String| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        self.table.add_row(cells.into_iter().map(clean));
    }

    /// The table's lines, each with its newline and without spaces at the end.
    pub(super) fn render(mut self, style: Style) -> String {
        let plain = TableStyle::new();
        // The rule's junctions are a column of their own between any two others.
        let (drawn_style, gap) = match style {
            Style::Plain => (plain, 2),
            Style::Ruled => (plain.header_separator(LineStyle::none().fill('─').junction('─')), 1),
        };
        self.table.load_style(drawn_style);
        let last = self.columns.len().saturating_sub(1);
        for (index, column) in self.columns.iter().enumerate() {
            if let Some(drawn) = self.table.column_mut(index) {
                drawn.set_padding((0, if index == last { 0 } else { gap }));
                if matches!(column, Column::Number(_)) {
                    drawn.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
