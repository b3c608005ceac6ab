//! A table on the screen: which columns there is room for, and which rows.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, StatefulWidget, Table, TableState, Widget as _};

use super::columns::{Column, Row};
use super::look::Look;
use super::ui::{Section, Ui};

/// Between columns.
const GAP: u16 = 2;
/// A history in less says nothing.
const SHORTEST: u16 = 4;
/// A name in less says nothing.
const NAME: u16 = 16;
/// Columns of a number: what [`si`] needs.
const NUMBER: usize = 5;

pub(super) fn length(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// Draws the table of `section`.
pub(super) fn draw(ui: &Ui, look: Look, section: Section, area: Rect, buffer: &mut Buffer) {
    match section {
        Section::Ports => table(ui, look, section, ui.ports(), area, buffer),
        Section::Peers => table(ui, look, section, ui.peers(), area, buffer),
        Section::Workers => table(ui, look, section, ui.workers(), area, buffer),
    }
}

/// How wide a column is: as its title with a mark, and as what is in it.
fn width<T>(column: &Column<T>, rows: &[&T]) -> u16 {
    let cells = rows.iter().map(|row| (column.value)(row).text().chars().count());
    let number = if column.is_number { NUMBER } else { 0 };
    length(cells.chain([column.title.len() + 1, number]).max().unwrap_or(0))
}

/// How wide all columns are together.
pub(super) fn natural<T>(columns: &[Column<T>], rows: &[&T]) -> u16 {
    let widths = columns.iter().map(|column| width(column, rows) + GAP);
    widths.fold(0, u16::saturating_add).saturating_sub(GAP)
}

fn table<T: Row>(
    ui: &Ui,
    look: Look,
    section: Section,
    (mut columns, rows): (Vec<Column<T>>, Vec<&T>),
    area: Rect,
    buffer: &mut Buffer,
) {
    let sort = ui.sort(section);
    // A long name gives way first, down to what still says something.
    while natural(&columns, &rows) > area.width + width(&columns[0], &rows).saturating_sub(NAME) {
        let Some(spare) = columns.iter().map(|column| column.spare).max().filter(|spare| *spare > 0) else { break };
        columns.retain(|column| column.spare < spare);
    }
    let mut widths: Vec<_> = columns.iter().map(|column| width(column, &rows)).collect();
    let over = natural(&columns, &rows).saturating_sub(area.width);
    widths[0] -= over.min(widths[0].saturating_sub(1));
    let left = area.width.saturating_sub(natural(&columns, &rows));
    let bars = left.saturating_sub(GAP);
    let has_bars = bars >= SHORTEST;
    if has_bars {
        widths.push(bars);
    }
    let align = |line: Line<'static>, is_number| if is_number { line.right_aligned() } else { line };
    let title = |column: &Column<T>| {
        let is_sorted = column.title == sort.title;
        let mark = if is_sorted { look.mark(sort.is_reversed) } else { "" };
        Cell::new(align(Line::raw(format!("{}{mark}", column.title)), column.is_number))
    };
    let head = ratatui::widgets::Row::new(columns.iter().map(title)).style(look.head(section == ui.focus));
    let row = |row: &&T| {
        let cell = |column: &Column<T>| {
            let line = Line::styled((column.value)(row).text(), look.tone((column.tone)(row)));
            Cell::new(align(line, column.is_number))
        };
        let history = has_bars.then(|| Cell::new(look.bars(row.history(), T::FULL, bars)));
        ratatui::widgets::Row::new(columns.iter().map(cell).chain(history))
    };
    if rows.is_empty() && area.height > 1 {
        let text = if ui.filter.is_empty() { "none" } else { "none of that name" };
        Paragraph::new(text).render(Rect { y: area.y + 1, height: 1, ..area }, buffer);
    }
    let selected = ui.selected(section).and_then(|name| rows.iter().position(|row| row.name() == name));
    let height = usize::from(area.height.saturating_sub(1));
    // The marked row is in sight.
    let offset = selected.map_or(0, |selected| (selected + 1).saturating_sub(height.max(1)));
    let mut state = TableState::new().with_offset(offset).with_selected(selected);
    let table = Table::new(rows.iter().map(row), widths.into_iter().map(Constraint::Length))
        .header(head)
        .column_spacing(GAP)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    StatefulWidget::render(table, area, buffer, &mut state);
}
