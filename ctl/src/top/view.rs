//! The screen: from what is known and asked for to characters. Nothing here knows a terminal.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, StatefulWidget, Table, TableState, Widget as _};
use vswitch_api::Status;

use super::columns::{Column, Row};
use super::network::{Flow, Network, Tone};
use super::number::{seconds, si};
use super::rate::History;
use super::ui::{Section, Ui};
use crate::render::duration;

/// Nothing can be said in less.
const SMALLEST: (u16, u16) = (30, 5);
/// Between columns.
const GAP: u16 = 2;
/// A history in less says nothing.
const SHORTEST: u16 = 4;
/// A name in less says nothing.
const NAME: u16 = 8;
/// Columns of a number: what [`si`] needs.
const NUMBER: usize = 5;

const KEYS: &str = "q quit  ? help  tab table  < > sort  r reverse  / filter  p pause";
const HELP: &str = "\
 q, Ctrl-C   quit                      p, space    pause, and go on
 tab         the next table            / TEXT      only names with TEXT in them; enter keeps it
 < >, arrows sort by another column    esc         all names, no mark
 r           reverse the order         Ctrl-Z      back to the shell, fg returns
 up, down    mark a row: what it drops, and why, is told below

 RX/s  RX b/s  frames and bits a second that the container or peer sends; a super-frame is one frame
 TX/s  TX b/s  the same, sent to it
 DROP/s NOTE   frames dropped a second, and the reason of most of them; lost: the port's interface is gone
 b/s           both ways, and how it was of late, the newest at the right
 TRIP LOSS     median round trip and unanswered part of probes (vswitchd --probe-interval)
 BATCH         frames that a worker reads at once, on average
 TURN P99      99 of 100 turns that found frames took no longer
 BUSY          the part of its time in which a worker moves frames; at 100 % it is saturated

Any key leads back.";

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Without, there are bold and reversed characters at most.
    pub(super) is_coloured: bool,
    /// Whether the terminal has more than ASCII.
    pub(super) is_unicode: bool,
    /// Time between samples.
    pub(super) interval: Duration,
}

impl Look {
    fn tone(self, tone: Tone) -> Style {
        let (colour, modifier) = match tone {
            Tone::Fine => return Style::new(),
            Tone::Odd => (Color::Yellow, Modifier::empty()),
            Tone::Bad => (Color::Red, Modifier::BOLD),
        };
        let style = Style::new().add_modifier(modifier);
        if self.is_coloured { style.fg(colour) } else { style }
    }

    /// The head of a table that keys are for, or not.
    fn head(self, is_focus: bool) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match (is_focus, self.is_coloured) {
            (true, _) => style.add_modifier(Modifier::REVERSED),
            (false, true) => style.fg(Color::Cyan),
            (false, false) => style,
        }
    }

    const fn mark(self, is_reversed: bool) -> &'static str {
        match (self.is_unicode, is_reversed) {
            (true, false) => "▼",
            (true, true) => "▲",
            (false, false) => "v",
            (false, true) => "^",
        }
    }

    /// The newest values of `history` in `width` columns, as high as their part of `full`, or of the greatest.
    fn bars(self, history: &History, full: Option<f64>, width: u16) -> String {
        let bars = if self.is_unicode { "▁▂▃▄▅▆▇█" } else { "_.:-=+*#" };
        let width = usize::from(width);
        let greatest = full.unwrap_or_else(|| history.last(width).fold(0.0, f64::max));
        let bar = |value: f64| {
            if value <= 0.0 || greatest <= 0.0 {
                return ' ';
            }
            // The first bar whose upper end is not below the value.
            let step = (1..=8u32).find(|step| value * 8.0 <= greatest * f64::from(*step)).unwrap_or(8);
            bars.chars().nth(usize::try_from(step - 1).unwrap_or(0)).unwrap_or(' ')
        };
        let text: String = history.last(width).map(bar).collect();
        format!("{text:>width$}")
    }
}

/// Draws all of it into `area`.
pub(super) fn draw(ui: &Ui, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("too small: {}x{} at least", SMALLEST.0, SMALLEST.1);
        return Paragraph::new(text).render(area, buffer);
    }
    let header = header(ui, look, area.width);
    // Where there is little room, tables are worth more than figures.
    let lines = if area.height < 10 { 1 } else { header.len() };
    let [top, middle, bottom] = split(area, length(lines));
    Paragraph::new(header).render(top, buffer);
    if ui.is_help {
        return Paragraph::new(HELP).render(middle.union(bottom), buffer);
    }
    let details = detail(ui, look);
    let (middle, above) = if details.is_some() && middle.height > 4 {
        let above = Rect { y: middle.bottom() - 1, height: 1, ..middle };
        (Rect { height: middle.height - 1, ..middle }, Some(above))
    } else {
        (middle, None)
    };
    tables(ui, look, middle, buffer);
    if let (Some(line), Some(area)) = (details, above) {
        Paragraph::new(line).render(area, buffer);
    }
    footer(ui).render(bottom, buffer);
}

/// All of it as text: every row, and every column in full. Histories are left out.
pub(super) fn text(ui: &Ui, look: Look) -> String {
    let rows = |rows: usize| length(rows.max(1)).saturating_add(2);
    let (ports, peers, workers) = (ui.ports(), ui.peers(), ui.workers());
    let heights = [rows(ports.1.len()), rows(peers.1.len()), rows(workers.1.len())];
    let widths = [natural(&ports.0, &ports.1), natural(&peers.0, &peers.1), natural(&workers.0, &workers.1)];
    let mut head = header(ui, look, 0);
    // The last line is about histories.
    head.truncate(3);
    let wide = head.iter().map(|line| length(line.width())).max().unwrap_or(0);
    let width = widths.into_iter().max().unwrap_or(0).max(wide);
    let mut out = String::new();
    let mut write = |area: Rect, draw: &dyn Fn(Rect, &mut Buffer)| {
        let mut buffer = Buffer::empty(area);
        draw(area, &mut buffer);
        lines(&buffer).iter().for_each(|line| out.extend([line.as_str(), "\n"]));
    };
    write(Rect::new(0, 0, width, length(head.len()) + 1), &|area, buffer| {
        Paragraph::new(head.clone()).render(area, buffer)
    });
    let look = Look { is_unicode: false, ..look };
    let mut sections = Vec::new();
    for section in Section::ALL {
        let at = section.index();
        if section == Section::Peers && peers.1.is_empty() {
            continue;
        }
        sections.push((section, Rect::new(0, 0, widths[at], heights[at] - 1)));
    }
    let last = sections.len();
    for (place, (section, area)) in sections.into_iter().enumerate() {
        let area = Rect { height: area.height + u16::from(place + 1 < last), ..area };
        write(area, &|area, buffer| table_of(ui, look, section, area, buffer));
    }
    out
}

/// What is written in `buffer`, without blanks behind.
pub(super) fn lines(buffer: &Buffer) -> Vec<String> {
    let line = |y| (buffer.area.left()..buffer.area.right()).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (buffer.area.top()..buffer.area.bottom()).map(|y| line(y).trim_end().to_owned()).collect()
}

fn length(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// `area` as head, middle, and a line at the bottom.
fn split(area: Rect, head: u16) -> [Rect; 3] {
    let top = Rect { height: head, ..area };
    let middle = Rect { y: area.y + head, height: area.height - head - 1, ..area };
    let bottom = Rect { y: area.bottom() - 1, height: 1, ..area };
    [top, middle, bottom]
}

fn header(ui: &Ui, look: Look, width: u16) -> Vec<Line<'static>> {
    let network = ui.network();
    let Some(status) = &network.status else {
        let text = ui.trouble.clone().unwrap_or_else(|| "asking vswitchd".to_owned());
        return vec![Line::styled(text, look.tone(Tone::Bad)), Line::default()];
    };
    let mut first = vec![Span::raw(format!("vswitchd {}, up {}  ", status.version, duration(status.uptime_s)))];
    if ui.is_paused() {
        first.push(Span::styled("PAUSED", Style::new().add_modifier(Modifier::REVERSED)));
        first.push(Span::raw("  "));
    }
    if let Some(trouble) = &ui.trouble {
        first.push(Span::styled(trouble.clone(), look.tone(Tone::Bad)));
    } else {
        let ailments = network.ailments();
        if ailments.is_empty() {
            let style = Style::new().add_modifier(Modifier::BOLD);
            first.push(Span::styled("healthy", if look.is_coloured { style.fg(Color::Green) } else { style }));
        }
        for (at, (tone, text)) in ailments.into_iter().enumerate() {
            first.push(Span::raw(if at == 0 { "" } else { ", " }));
            first.push(Span::styled(text, look.tone(tone)));
        }
    }
    let mut lines =
        vec![Line::from(first), Line::from(figures(status, network, look)), Line::from(sums(network, look))];
    if width > 0 {
        lines.push(Line::from(look.bars(&network.total.history, None, width)));
    }
    lines
}

fn figures(status: &Status, network: &Network, look: Look) -> String {
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let vtep = status.vtep.ip.map_or_else(|| "no VTEP".to_owned(), |ip| format!("VTEP {ip}"));
    format!(
        "{}, {}, {}, {} of {} addresses, {vtep}; every {}",
        count(status.ports, "port"),
        count(network.peers.len(), "peer"),
        count(status.workers, "worker"),
        status.fdb_used,
        status.fdb_limit,
        seconds(look.interval),
    )
}

/// What all ports do together.
fn sums(network: &Network, look: Look) -> Vec<Span<'static>> {
    let Some(rate) = &network.total.rate else { return vec![Span::raw("counting")] };
    let mut spans = vec![Span::raw(format!(
        "all ports: rx {}/s {}b/s, tx {}/s {}b/s, ",
        si(rate.rx_frames),
        si(rate.rx_bits),
        si(rate.tx_frames),
        si(rate.tx_bits)
    ))];
    match rate.drops.first() {
        None => spans.push(Span::raw("no drops")),
        Some((reason, _)) => {
            let text = format!("drops {}/s, most {reason}", si(rate.dropped()));
            spans.push(Span::styled(text, look.tone(Tone::Odd)));
        }
    }
    spans
}

/// What the marked row drops, and what that means.
fn detail(ui: &Ui, look: Look) -> Option<Line<'static>> {
    let network = ui.network();
    let flows = match ui.focus {
        Section::Ports => &network.ports,
        Section::Peers => &network.peers,
        Section::Workers => return None,
    };
    let name = ui.selected(ui.focus)?;
    let flow = flows.iter().find(|flow| flow.name == name)?;
    Some(Line::styled(format!("{name}: {}", told(flow, network)), look.tone(flow.tone())))
}

fn told(flow: &Flow, network: &Network) -> String {
    let mut parts = Vec::new();
    if flow.is_lost {
        parts.push("lost: its interface or namespace is gone (vsctl port show)".to_owned());
    }
    for finding in flow.health.iter().flat_map(|health| &health.findings) {
        parts.push(format!("{}: {}", finding.name, finding.text));
    }
    for (reason, rate) in flow.rate.iter().flat_map(|rate| &rate.drops) {
        let meaning = network.reasons.get(reason).map(|meaning| format!(" ({})", meaning.trim()));
        parts.push(format!("{}/s {reason}{}", si(*rate), meaning.unwrap_or_default()));
    }
    if parts.is_empty() { "drops nothing".to_owned() } else { parts.join("; ") }
}

fn footer(ui: &Ui) -> Paragraph<'static> {
    let text = match (ui.is_filtering, ui.filter.as_str()) {
        (true, filter) => format!("/{filter}_   enter keeps it, esc shows all"),
        (false, "") => KEYS.to_owned(),
        (false, filter) => format!("only names with {filter:?} (esc shows all)  {KEYS}"),
    };
    Paragraph::new(Line::styled(text, Style::new().add_modifier(Modifier::DIM)))
}

/// The tables, one below the other: the one that keys are for in full, the others as far as there is room.
fn tables(ui: &Ui, look: Look, area: Rect, buffer: &mut Buffer) {
    let wanted = |rows: usize| if rows == 0 { 0 } else { length(rows) + 1 };
    let network = ui.network();
    let mut wanted = [
        wanted(ui.ports().1.len()).max(2), // that there are none is said
        if network.peers.is_empty() { 0 } else { wanted(ui.peers().1.len()).max(2) },
        wanted(network.workers.len()),
    ];
    // A line between them, where all fit anyhow.
    let shown = wanted.iter().filter(|height| **height > 0).count();
    let gap = u16::from(wanted.iter().sum::<u16>() + length(shown) <= area.height);
    let room = area.height - gap * length(shown.saturating_sub(1));
    let focus = ui.focus.index();
    let others: u16 = wanted.iter().sum::<u16>() - wanted[focus];
    if others + wanted[focus] > room {
        // A quarter for each of the others, and nothing where that is not even a head with a row.
        let least = if room / 4 >= 2 { room / 4 } else { 0 };
        for section in Section::ALL.map(Section::index).into_iter().filter(|section| *section != focus) {
            let free = room.saturating_sub(wanted[focus]) / 2;
            wanted[section] = wanted[section].min(least.max(free));
        }
        let others: u16 = wanted.iter().sum::<u16>() - wanted[focus];
        wanted[focus] = room.saturating_sub(others);
    }
    let mut y = area.y;
    for (section, height) in Section::ALL.into_iter().zip(wanted) {
        if height > 0 {
            let area = Rect { y, height: height.min(area.bottom().saturating_sub(y)), ..area };
            table_of(ui, look, section, area, buffer);
            y = area.bottom() + gap;
        }
    }
}

fn table_of(ui: &Ui, look: Look, section: Section, area: Rect, buffer: &mut Buffer) {
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
fn natural<T>(columns: &[Column<T>], rows: &[&T]) -> u16 {
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
        let spare = columns.iter().enumerate().filter(|(_, column)| column.spare > 0);
        let Some((at, _)) = spare.max_by_key(|(_, column)| column.spare) else { break };
        columns.remove(at);
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
