//! What the viewer has asked to see.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::columns::{self, BITS, Column, Row, Sort, WORKER};
use super::network::{Flow, Network, Worker};
use super::sample::Sample;

/// Rows that a page has.
const PAGE: isize = 10;
/// A filter has no more characters: no name has.
const LONGEST: usize = 64;

/// A table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Section {
    #[default]
    Ports,
    Peers,
    Workers,
}

impl Section {
    /// In the order they stand.
    pub(super) const ALL: [Self; 3] = [Self::Ports, Self::Peers, Self::Workers];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Ports => 0,
            Self::Peers => 1,
            Self::Workers => 2,
        }
    }
}

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// To go on.
    Stay,
    Quit,
    /// To stop until the shell lets it go on.
    Suspend,
}

/// Everything that is on the screen, and how.
#[derive(Debug)]
pub(super) struct Ui {
    live: Network,
    /// What was there when the viewer paused.
    frozen: Option<Network>,
    /// The table that keys are for.
    pub(super) focus: Section,
    sorts: [Sort; 3],
    selected: [Option<String>; 3],
    pub(super) filter: String,
    /// Whether keys are letters of the filter.
    pub(super) is_filtering: bool,
    pub(super) is_help: bool,
    /// Why the daemon is not heard.
    pub(super) trouble: Option<String>,
}

impl Ui {
    pub(super) fn new() -> Self {
        Self {
            live: Network::default(),
            frozen: None,
            focus: Section::Ports,
            sorts: [Sort::by(BITS), Sort::by(BITS), Sort::by(WORKER)],
            selected: [const { None }; 3],
            filter: String::new(),
            is_filtering: false,
            is_help: false,
            trouble: None,
        }
    }

    /// The daemon is heard: what is shown goes on, where it is not paused. What is not shown is not lost.
    pub(super) fn take(&mut self, sample: &Sample) {
        self.trouble = None;
        self.live.take(sample);
    }

    /// What is shown.
    pub(super) fn network(&self) -> &Network {
        self.frozen.as_ref().unwrap_or(&self.live)
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub(super) const fn sort(&self, section: Section) -> Sort {
        self.sorts[section.index()]
    }

    /// The row that is marked, by its name.
    pub(super) fn selected(&self, section: Section) -> Option<&str> {
        self.selected[section.index()].as_deref()
    }

    /// The ports that are shown.
    pub(super) fn ports(&self) -> (Vec<Column<Flow>>, Vec<&Flow>) {
        self.rows(Section::Ports, columns::ports(), &self.network().ports)
    }

    /// The peers that are shown.
    pub(super) fn peers(&self) -> (Vec<Column<Flow>>, Vec<&Flow>) {
        let peers = &self.network().peers;
        self.rows(Section::Peers, columns::peers(peers), peers)
    }

    /// The workers that are shown: all of them, whatever the filter.
    pub(super) fn workers(&self) -> (Vec<Column<Worker>>, Vec<&Worker>) {
        self.rows(Section::Workers, columns::workers(), &self.network().workers)
    }

    fn rows<'a, T: Row>(
        &self,
        section: Section,
        columns: Vec<Column<T>>,
        all: &'a [T],
    ) -> (Vec<Column<T>>, Vec<&'a T>) {
        let filter = if section == Section::Workers { "" } else { &self.filter };
        let rows = self.sort(section).rows(all, &columns, filter);
        (columns, rows)
    }

    /// Titles of the columns, and names of the rows, of the table that keys are for.
    fn table(&self) -> (Vec<&'static str>, Vec<String>) {
        fn of<T: Row>((columns, rows): (Vec<Column<T>>, Vec<&T>)) -> (Vec<&'static str>, Vec<String>) {
            (columns.iter().map(|column| column.title).collect(), rows.iter().map(|row| row.name()).collect())
        }
        match self.focus {
            Section::Ports => of(self.ports()),
            Section::Peers => of(self.peers()),
            Section::Workers => of(self.workers()),
        }
    }

    /// Does what `key` says.
    pub(super) fn key(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::Stay;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c' | 'd' | '\\') => return Act::Quit,
                KeyCode::Char('z') => return Act::Suspend,
                KeyCode::Char('u') if self.is_filtering => self.filter.clear(),
                _ => {}
            }
            return Act::Stay;
        }
        if self.is_filtering {
            self.letter(key.code);
            return Act::Stay;
        }
        if self.is_help {
            // Any key leads back, and those that end it do.
            self.is_help = false;
            return if key.code == KeyCode::Char('q') { Act::Quit } else { Act::Stay };
        }
        match key.code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_help = true,
            KeyCode::Char('p' | ' ') => {
                self.frozen = if self.is_paused() { None } else { Some(self.live.clone()) };
            }
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Tab => self.next(1),
            KeyCode::BackTab => self.next(Section::ALL.len() - 1),
            KeyCode::Char('>' | '.' | 's') | KeyCode::Right => self.sort_by_next(1),
            KeyCode::Char('<' | ',' | 'S') | KeyCode::Left => self.sort_by_next(-1),
            KeyCode::Char('r') => {
                let sort = &mut self.sorts[self.focus.index()];
                sort.is_reversed = !sort.is_reversed;
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::PageDown => self.select(PAGE),
            KeyCode::PageUp => self.select(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.select(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.select(isize::MAX),
            KeyCode::Esc => {
                self.filter.clear();
                self.selected[self.focus.index()] = None;
            }
            _ => {}
        }
        Act::Stay
    }

    fn letter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) if self.filter.chars().count() < LONGEST => self.filter.push(letter),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter | KeyCode::Tab => self.is_filtering = false,
            KeyCode::Esc => {
                self.is_filtering = false;
                self.filter.clear();
            }
            _ => {}
        }
    }

    /// Keys are for the table `steps` further on, of those that are there.
    fn next(&mut self, steps: usize) {
        for _ in Section::ALL {
            self.focus = Section::ALL[(self.focus.index() + steps) % Section::ALL.len()];
            if self.focus != Section::Peers || !self.network().peers.is_empty() {
                return;
            }
        }
    }

    fn sort_by_next(&mut self, step: isize) {
        let (titles, _) = self.table();
        let sort = &mut self.sorts[self.focus.index()];
        let at = titles.iter().position(|title| *title == sort.title).unwrap_or(0);
        let next = at.checked_add_signed(step).unwrap_or(titles.len() - 1) % titles.len();
        *sort = Sort::by(titles[next]);
    }

    /// Marks the row `steps` below the one that is marked, or the first.
    fn select(&mut self, steps: isize) {
        let (_, names) = self.table();
        let selected = &mut self.selected[self.focus.index()];
        let at = selected.as_ref().and_then(|name| names.iter().position(|other| other == name));
        let at = at.map_or(0, |at| at.saturating_add_signed(steps).min(names.len() - 1));
        let is_first = selected.is_none() && steps == isize::MAX;
        *selected = if is_first { names.last() } else { names.get(at) }.cloned();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::super::network::tests::{sample, sample_of};
    use super::*;

    /// A viewer of a switch that is sampled twice, who pressed `keys`: letters, or names in `<>`.
    pub(in crate::top) fn viewer(keys: &str) -> Ui {
        let mut ui = Ui::new();
        ui.take(&sample(1));
        ui.take(&sample(2));
        press(&mut ui, keys);
        ui
    }

    pub(in crate::top) fn press(ui: &mut Ui, keys: &str) -> Act {
        let mut act = Act::Stay;
        let mut rest = keys;
        while let Some(letter) = rest.chars().next() {
            let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            let named = named.and_then(|(name, rest)| Some((code(name)?, rest)));
            let ((code, modifiers), after) =
                named.unwrap_or(((KeyCode::Char(letter), KeyModifiers::NONE), &rest[letter.len_utf8()..]));
            act = ui.key(KeyEvent::new(code, modifiers));
            rest = after;
        }
        act
    }

    fn code(name: &str) -> Option<(KeyCode, KeyModifiers)> {
        let code = match name {
            "esc" => KeyCode::Esc,
            "enter" => KeyCode::Enter,
            "tab" => KeyCode::Tab,
            "backtab" => KeyCode::BackTab,
            "back" => KeyCode::Backspace,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "end" => KeyCode::End,
            "home" => KeyCode::Home,
            "pgdn" => KeyCode::PageDown,
            "pgup" => KeyCode::PageUp,
            _ => return Some((KeyCode::Char(name.strip_prefix("c-")?.chars().next()?), KeyModifiers::CONTROL)),
        };
        Some((code, KeyModifiers::NONE))
    }

    fn names(ui: &Ui) -> String {
        ui.table().1.join(" ")
    }

    #[test]
    fn keys_that_end_it() {
        let table = [
            ("q", Act::Quit),
            ("<c-c>", Act::Quit),
            ("/<c-c>", Act::Quit),
            ("?<c-c>", Act::Quit),
            ("?q", Act::Quit),
            ("<c-z>", Act::Suspend),
            // A letter of the filter, and one that leads back.
            ("/q", Act::Stay),
            ("?p", Act::Stay),
            ("x", Act::Stay),
        ];
        for (keys, act) in table {
            assert_eq!(press(&mut viewer(""), keys), act, "{keys}");
        }
    }

    #[test]
    fn keys_that_sort() {
        let table = [
            ("", "b/s", "blue red tunnel"),
            ("r", "b/s", "tunnel red blue"),
            ("<", "NOTE", "blue red tunnel"),
            (">", "PORT", "blue red tunnel"),
            (">r", "PORT", "tunnel red blue"),
            (">>", "RX/s", "red blue tunnel"),
            // Another column begins with its own order.
            ("r>", "PORT", "blue red tunnel"),
        ];
        for (keys, title, expected) in table {
            let ui = viewer(keys);
            assert_eq!((ui.sort(Section::Ports).title, names(&ui).as_str()), (title, expected), "{keys}");
        }
        let ui = viewer("<tab><tab><");
        assert_eq!((ui.focus, ui.sort(Section::Workers).title), (Section::Workers, "BUSY"));
        assert_eq!(ui.sort(Section::Ports).title, "b/s");
    }

    #[test]
    fn keys_that_filter() {
        let table = [
            ("/re", "re", true, "red"),
            ("/re<enter>", "re", false, "red"),
            ("/ex<back>d<back>", "e", true, "blue red tunnel"),
            ("/red<c-u>b", "b", true, "blue"),
            ("/red<esc>", "", false, "blue red tunnel"),
            ("/red<enter><esc>", "", false, "blue red tunnel"),
            ("/<back><back>z", "z", true, ""),
        ];
        for (keys, filter, is_filtering, expected) in table {
            let ui = viewer(keys);
            assert_eq!(
                (ui.filter.as_str(), ui.is_filtering, names(&ui).as_str()),
                (filter, is_filtering, expected),
                "{keys}"
            );
        }
        let mut long = viewer("/");
        press(&mut long, &"x".repeat(100));
        assert_eq!(long.filter.len(), LONGEST);
        // Workers have no names to filter by.
        assert_eq!(names(&viewer("/zzz<enter><tab><tab>")), "0");
    }

    #[test]
    fn keys_that_mark_a_row() {
        let table = [
            ("<down>", Some("blue")),
            ("<down><down>", Some("red")),
            ("<down><down><down><down>", Some("tunnel")),
            ("<down><down><up><up>", Some("blue")),
            ("<end>", Some("tunnel")),
            ("<end><home>", Some("blue")),
            ("<down><pgdn>", Some("tunnel")),
            ("<down><pgdn><pgup>", Some("blue")),
            ("<down><esc>", None),
            // None is there to be marked.
            ("/zzz<enter><down>", None),
            // A row that the filter hides is marked no more: the first of those there are is.
            ("<end>/red<enter><down>", Some("red")),
        ];
        for (keys, expected) in table {
            assert_eq!(viewer(keys).selected(Section::Ports), expected, "{keys}");
        }
    }

    #[test]
    fn a_pause_shows_what_was_and_forgets_nothing() {
        let mut ui = viewer("p");
        assert!(ui.is_paused());
        let uptime = |ui: &Ui| ui.network().status.as_ref().unwrap().uptime_s;
        ui.take(&sample(3));
        ui.take(&sample_of(4, 42, &json!([])));
        assert_eq!(uptime(&ui), 3702);
        press(&mut ui, " ");
        assert_eq!((ui.is_paused(), uptime(&ui)), (false, 3704));
        assert_eq!(ui.network().total.history.last(9).count(), 3);
    }

    #[test]
    fn tables_that_are_not_there_are_passed_over() {
        let focus = |keys| viewer(keys).focus;
        assert_eq!(
            [focus("<tab>"), focus("<backtab>"), focus("<tab><tab><tab>")],
            [Section::Peers, Section::Workers, Section::Ports]
        );
        let mut ui = Ui::new();
        let mut alone = sample(1);
        alone.peers.clear();
        ui.take(&alone);
        press(&mut ui, "<tab>");
        assert_eq!(ui.focus, Section::Workers);
    }

    /// Before the daemon was heard, and with nothing on it.
    #[test]
    fn keys_where_there_is_nothing() {
        let mut ui = Ui::new();
        press(&mut ui, "<down><up><end><home>><r/x<enter><tab><down>p?<esc>");
        assert_eq!(ui.selected(Section::Ports), None);
    }

    #[test]
    fn a_sample_ends_the_trouble() {
        let mut ui = viewer("");
        ui.trouble = Some("gone".to_owned());
        ui.take(&sample(3));
        assert_eq!(ui.trouble, None);
    }
}
