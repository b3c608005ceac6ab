//! The screen: from what is known and asked for to characters. Nothing here knows a terminal.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget as _, Wrap};
use vswitch_api::Status;

use super::grid::{self, length};
use super::look::Look;
use super::network::{Flow, Network, Tone};
use super::number::{seconds, si};
use super::ui::{Section, Ui};
use crate::render::duration;

/// Nothing can be said in less.
const SMALLEST: (u16, u16) = (30, 5);

const KEYS: &str = "q quit  ? help  tab table  < > sort  r reverse  / filter  p pause";
const HELP: &str = "\
What keys do, and what columns say.

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

/// Draws all of it into `area`.
pub(super) fn draw(ui: &Ui, look: Look, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("too small: {}x{} at least", SMALLEST.0, SMALLEST.1);
        return Paragraph::new(text).wrap(Wrap { trim: true }).render(area, buffer);
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
    let widths =
        [grid::natural(&ports.0, &ports.1), grid::natural(&peers.0, &peers.1), grid::natural(&workers.0, &workers.1)];
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
        write(area, &|area, buffer| grid::draw(ui, look, section, area, buffer));
    }
    out
}

/// What is written in `buffer`, without blanks behind.
pub(super) fn lines(buffer: &Buffer) -> Vec<String> {
    let line = |y| (buffer.area.left()..buffer.area.right()).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (buffer.area.top()..buffer.area.bottom()).map(|y| line(y).trim_end().to_owned()).collect()
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
    if ui.trouble.is_some() {
        first.push(Span::styled("NO ANSWER, trying again; what is below is old", look.tone(Tone::Bad)));
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
    let second = match &ui.trouble {
        Some(why) => Line::styled(why.clone(), look.tone(Tone::Bad)),
        None => Line::from(figures(status, network, look)),
    };
    let mut lines = vec![Line::from(first), second, Line::from(sums(network, look))];
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
        // A quarter for each of the others, or what the one in focus leaves them: a head with a row at least, or nothing.
        let mut free = room.saturating_sub(wanted[focus]);
        for section in Section::ALL.map(Section::index).into_iter().filter(|section| *section != focus) {
            let height = wanted[section].min(free.max(room / 4));
            wanted[section] = if height < 2 { 0 } else { height };
            free = free.saturating_sub(wanted[section]);
        }
        let others: u16 = wanted.iter().sum::<u16>() - wanted[focus];
        wanted[focus] = room.saturating_sub(others);
    }
    let mut y = area.y;
    for (section, height) in Section::ALL.into_iter().zip(wanted) {
        if height > 0 {
            let area = Rect { y, height: height.min(area.bottom().saturating_sub(y)), ..area };
            grid::draw(ui, look, section, area, buffer);
            y = area.bottom() + gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::network::tests::{health, sample};
    use super::super::ui::tests::{press, viewer};
    use super::*;

    const PLAIN: Look = Look { is_coloured: false, is_unicode: true, interval: Duration::from_secs(1) };

    fn drawn(ui: &Ui, look: Look, width: u16, height: u16) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw(ui, look, buffer.area, &mut buffer);
        buffer
    }

    fn shown(ui: &Ui, width: u16, height: u16) -> String {
        lines(&drawn(ui, PLAIN, width, height)).join("\n")
    }

    #[test]
    fn a_screen() {
        let expected = "\
vswitchd 0.1.0, up 1 h 1 min  drops 25/s (storm_broadcast)
2 ports, 1 peer, 1 worker, 3 of 131072 addresses, VTEP 192.0.2.1; every 1 s
all ports: rx 1.21k/s 1.21Mb/s, tx 1.21k/s 12.0Mb/s, drops 25/s, most storm_broa
                                                                               █
PORT     RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE              b/s▼
blue       10    8.00k  1.20k    12.0M       25  storm_broadcast  12.0M        █
red     1.20k    1.20M     10    8.00k        0                   1.21M        █
tunnel      0        0    100    80.0k        0                   80.0k        █

PEER        RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE    b/s▼
192.0.2.2      0        0    100    80.0k        0         80.0k               █

WORKER▼   BATCH   TURN P99   TURNS/s   SLEEPS/s   BUSY
0            13      32 us       100         50   25 %                        ▂▂



blue: 25/s storm_broadcast (more broadcasts than the storm limit lets pass)
q quit  ? help  tab table  < > sort  r reverse  / filter  p pause";
        assert_eq!(shown(&viewer("<down>"), 80, 19), expected);
    }

    #[test]
    fn screens_with_less_room() {
        let narrow = "\
vswitchd 0.1.0, up 1 h 1 min  drops 25/s (storm_b
2 ports, 1 peer, 1 worker, 3 of 131072 addresses,
all ports: rx 1.21k/s 1.21Mb/s, tx 1.21k/s 12.0Mb
                                                █
PORT     DROP/s  NOTE              b/s▼
blue         25  storm_broadcast  12.0M         █
red           0                   1.21M         █
tunnel        0                   80.0k         █
PEER        DROP/s  NOTE    b/s▼
192.0.2.2        0         80.0k                █
WORKER▼   BATCH   TURN P99   TURNS/s   BUSY
0            13      32 us       100   25 %    ▂▂

q quit  ? help  tab table  < > sort  r reverse  /";
        assert_eq!(shown(&viewer(""), 49, 14), narrow);
        // What is not in focus goes first, whole tables at a time.
        let low = "\
vswitchd 0.1.0, up 1 h 1 min
PORT     DROP/s   b/s▼
blue         25  12.0M       █
red           0  1.21M       █
tunnel        0  80.0k       █
PEER        DROP/s   b/s▼
192.0.2.2        0  80.0k
q quit  ? help  tab table  < >";
        assert_eq!(shown(&viewer(""), 30, 8), low);
        let least = "\
vswitchd 0.1.0, up 1 h 1 min
PORT     DROP/s   b/s▼
red           0  1.21M       █
tunnel        0  80.0k       █
q quit  ? help  tab table  < >";
        assert_eq!(shown(&viewer("<end>"), 30, 5), least);
        let workers = "\
vswitchd 0.1.0, up 1 h 1 min
WORKER▼   BATCH   BUSY
0            13   25 %      ▂▂

q quit  ? help  tab table  < >";
        assert_eq!(shown(&viewer("<tab><tab>"), 30, 5), workers);
        assert_eq!(shown(&viewer(""), 20, 3), "too small: 30x5 at\nleast\n");
    }

    #[test]
    fn what_peers_have_where_they_are_probed() {
        let mut ui = viewer("<tab><down>");
        let mut probed = sample(3);
        let finding = json!([{"name": "mtu_smaller", "text": "1400 bytes reach it, not 1500", "mend": null}]);
        probed.peers[0].health = Some(health("degraded", finding));
        ui.take(&probed);
        let screen = shown(&ui, 100, 16);
        let lines: Vec<_> = screen.lines().collect();
        let expected = [
            (0, "vswitchd 0.1.0, up 1 h 1 min  192.0.2.2 degraded (mtu_smaller), drops 25/s (storm_broadcast)"),
            (8, "PEER        RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE     TRIP   LOSS  STATE      b/s▼"),
            (9, "192.0.2.2      0        0    100    80.0k        0         200 us   10 %  degraded  80.0k         ██"),
            (14, "192.0.2.2: mtu_smaller: 1400 bytes reach it, not 1500"),
        ];
        for (at, text) in expected {
            assert_eq!(lines[at], text, "{screen}");
        }
    }

    #[test]
    fn what_is_said_above_and_below() {
        let trouble = |mut ui: Ui| {
            ui.trouble = Some("cannot connect to /s".to_owned());
            ui
        };
        let table = [
            ("paused", viewer("p"), 0, "vswitchd 0.1.0, up 1 h 1 min  PAUSED  drops 25/s (storm_broadcast)"),
            (
                "gone",
                trouble(viewer("")),
                0,
                "vswitchd 0.1.0, up 1 h 1 min  NO ANSWER, trying again; what is below is old",
            ),
            ("gone, why", trouble(viewer("")), 1, "cannot connect to /s"),
            ("not there yet", Ui::new(), 0, "asking vswitchd"),
            ("never there", trouble(Ui::new()), 0, "cannot connect to /s"),
            ("filtering", viewer("/re"), 19, "/re_   enter keeps it, esc shows all"),
            (
                "filtered",
                viewer("/red<enter>"),
                5,
                "red    1.20k    1.20M     10    8.00k        0         1.21M                   █",
            ),
            ("hidden", viewer("/zzz<enter>"), 5, "none of that name"),
            ("reversed", viewer("r"), 4, "PORT     RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE              b/s▲"),
            ("by another", viewer(">>"), 4, "PORT    RX/s▼   RX b/s   TX/s   TX b/s   DROP/s  NOTE               b/s"),
            ("help", viewer("?"), 6, " q, Ctrl-C   quit                      p, space    pause, and go on"),
        ];
        for (what, ui, line, expected) in table {
            let screen = shown(&ui, 80, 20);
            assert_eq!(screen.lines().nth(line), Some(expected), "{what}:\n{screen}");
        }
        let mut quiet = Ui::new();
        for n in 1..3 {
            let mut sample = sample(n);
            sample.stats.ports[1].drops.clear();
            quiet.take(&sample);
        }
        let screen = shown(&quiet, 80, 20);
        assert!(screen.starts_with("vswitchd 0.1.0, up 1 h 1 min  healthy\n"), "{screen}");
        assert!(screen.contains("tx 1.21k/s 12.0Mb/s, no drops\n"), "{screen}");
        let help = shown(&viewer("?"), 110, 24);
        assert!(HELP.lines().all(|line| help.contains(line.trim_end())), "{help}");
    }

    #[test]
    fn one_screen_as_text() {
        let expected = "\
vswitchd 0.1.0, up 1 h 1 min  drops 25/s (storm_broadcast)
2 ports, 1 peer, 1 worker, 3 of 131072 addresses, VTEP 192.0.2.1; every 1 s
all ports: rx 1.21k/s 1.21Mb/s, tx 1.21k/s 12.0Mb/s, drops 25/s, most storm_broadcast

PORT     RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE              b/sv
blue       10    8.00k  1.20k    12.0M       25  storm_broadcast  12.0M
red     1.20k    1.20M     10    8.00k        0                   1.21M
tunnel      0        0    100    80.0k        0                   80.0k

PEER        RX/s   RX b/s   TX/s   TX b/s   DROP/s  NOTE    b/sv
192.0.2.2      0        0    100    80.0k        0         80.0k

WORKERv   BATCH   TURN P99   TURNS/s   SLEEPS/s   BUSY
0            13      32 us       100         50   25 %
";
        assert_eq!(text(&viewer(""), PLAIN), expected);
        // A switch with nothing on it.
        let mut empty = sample(1);
        empty.stats.ports.clear();
        empty.peers.clear();
        let mut ui = Ui::new();
        ui.take(&empty);
        assert!(text(&ui, PLAIN).contains("\nnone\n\nWORKERv"), "{}", text(&ui, PLAIN));
    }

    #[test]
    fn no_colour_where_none_is_wanted() {
        let colours = |look| {
            let screen = drawn(&viewer("<down>"), look, 80, 24);
            screen.content().iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
        };
        assert_eq!(colours(PLAIN), 0);
        assert!(colours(Look { is_coloured: true, ..PLAIN }) > 0);
    }

    #[test]
    fn ascii_where_there_is_nothing_else() {
        let screen = drawn(&viewer(""), Look { is_unicode: false, ..PLAIN }, 80, 24);
        assert!(lines(&screen).iter().all(|line| line.is_ascii()), "{screen:?}");
    }

    /// Whatever the size and the state, something is drawn, and nothing fails.
    #[test]
    fn any_size() {
        let mut gone = viewer("");
        gone.trouble = Some("x".repeat(300));
        let states = [Ui::new(), viewer(""), viewer("<tab><end>"), viewer("/zzz"), viewer("?"), viewer("<end>p"), gone];
        for width in (0..35).chain([60, 80, 200]) {
            for height in (0..30).chain([100]) {
                for ui in &states {
                    let screen = drawn(ui, PLAIN, width, height);
                    let is_blank = lines(&screen).iter().all(String::is_empty);
                    assert_eq!(is_blank, width * height == 0, "{width}x{height}: {ui:?}");
                }
            }
        }
    }

    /// A long name gives way before a column does, and the marked row is in sight among many.
    #[test]
    fn long_names_and_many_rows() {
        let mut ui = Ui::new();
        let mut many = sample(1);
        let row = many.stats.ports[0].clone();
        many.stats.ports.extend(
            (0..100).map(|n| vswitch_api::PortStats { port: format!("port-of-the-container-{n:02}"), ..row.clone() }),
        );
        ui.take(&many);
        press(&mut ui, ">");
        assert_eq!(
            lines(&drawn(&ui, PLAIN, 60, 24))[5],
            "blue                       -        -        -             -"
        );
        press(&mut ui, "<end>");
        let screen = shown(&ui, 60, 24);
        assert!(screen.contains("tunnel") && !screen.contains("blue"), "{screen}");
        press(&mut ui, "<home>");
        assert!(shown(&ui, 60, 24).contains("blue"));
    }
}
