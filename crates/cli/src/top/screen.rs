//! The overview on a terminal, renewed until somebody has seen enough.

use std::{
    io, mem,
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Style, Stylize},
    text::Line,
    widgets::{Paragraph, Row, Table},
};

use super::{
    ask::Source,
    figures::Figures,
    keys::Keys,
    overview::{Overview, Section},
};
use crate::{outcome::Result, signals};

/// How often it is drawn anew, and how long a signal may wait to be heard.
const LOOK: Duration = Duration::from_millis(100);

/// What is shown.
struct View {
    last: Figures,
    overview: Overview,
    /// Why the server cannot be asked at the moment.
    trouble: Option<String>,
}

/// Shows the server until `q`, Escape, Ctrl-C, a signal, or the end of the terminal.
pub(super) fn show(source: Source, first: Figures, every: Duration) -> io::Result<()> {
    let answers = ask_on(source, every)?;
    let mut view = View { overview: Overview::new(&first, None), last: first, trouble: None };
    let (keys, mut terminal) = (Keys::new()?, ratatui::try_init()?);
    let shown = (|| {
        while !signals::interrupted() {
            answers.try_iter().for_each(|answer| view.hear(answer));
            terminal.draw(|frame| view.draw(frame))?;
            if keys.end(LOOK)? {
                break;
            }
        }
        Ok(())
    })();
    // Also if a draw has failed.
    let restored = ratatui::try_restore();
    if restored.is_err() {
        // The terminal is gone. Dropped, this would say so on stderr, which has gone with it, and panic over that.
        mem::forget(terminal);
    }
    // Who was told to end has nothing left to show.
    if signals::interrupted() { Ok(()) } else { shown.and(restored) }
}

/// Asks again and again, on a thread of its own: a server that does not answer keeps no key waiting.
fn ask_on(source: Source, every: Duration) -> io::Result<Receiver<Result<Figures>>> {
    let (sender, answers) = mpsc::sync_channel(1);
    thread::Builder::new().name("ask".into()).spawn(move || {
        loop {
            thread::sleep(every);
            if sender.send(source.ask()).is_err() {
                return;
            }
        }
    })?;
    Ok(answers)
}

impl View {
    fn hear(&mut self, answer: Result<Figures>) {
        match answer {
            Ok(figures) => {
                self.overview = Overview::new(&figures, Some(&self.last));
                (self.last, self.trouble) = (figures, None);
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)])
                .areas(frame.area());
        frame.render_widget(Line::from(self.overview.headline()).bold(), head);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).spacing(2).areas(body);
        // What it holds and does at the left; what went wrong, or ended, at the right.
        let middle = self.overview.sections.iter().position(|section| section.title == "refused");
        let (does, ended) = self.overview.sections.split_at(middle.unwrap_or(0));
        draw(frame, left, does);
        draw(frame, right, ended);
        let said = match &self.trouble {
            Some(trouble) => Line::from(format!("trying again: {trouble}")).reversed(),
            None => Line::from("q ends").dim(),
        };
        frame.render_widget(Paragraph::new(said), foot);
    }
}

fn draw(frame: &mut Frame<'_>, area: Rect, sections: &[Section]) {
    let mut rows = Vec::new();
    for Section { title, rows: numbers } in sections.iter().filter(|section| section.is_shown()) {
        rows.push(Row::new([*title]).style(Style::new().bold().underlined()));
        rows.extend(numbers.iter().map(|row| {
            let (value, beside) = row.cells();
            let cells = [Line::from(row.name.clone()), Line::from(value).right_aligned(), Line::from(beside)];
            Row::new(cells)
        }));
    }
    let widths = [Constraint::Length(17), Constraint::Length(11), Constraint::Fill(1)];
    frame.render_widget(Table::new(rows, widths), area);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::top::figures::tests::figures;

    fn view(text: &str) -> View {
        let last = figures(text, Instant::now());
        View { overview: Overview::new(&last, None), last, trouble: None }
    }

    fn shown(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let cells = terminal.backend().buffer().content().chunks(width.into());
        let line =
            |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
        cells.map(|cells| line(cells).trim_end().to_owned()).collect()
    }

    const TOLD: &str = "roadstead_uptime_seconds 61\nroadstead_ready 1\nroadstead_connections 7\n\
                        roadstead_connections_limit 10000\nroadstead_connections_accepted_total 1234\n\
                        roadstead_connections_refused_total{reason=\"connections\"} 5\n";

    #[test]
    fn what_it_does_is_at_the_left_and_whom_it_refused_at_the_right() {
        let shown = shown(&view(TOLD), 80, 24);
        assert_eq!(shown[0], "roadstead 1  echo on epoll  up 00:01:01  serving");
        assert_eq!(shown[2], "connections                              refused");
        assert!(shown[3].starts_with("open                        7 of 10,000"), "{shown:?}");
        assert!(shown[3].ends_with("connections                 5"), "{shown:?}");
        assert!(shown[4].starts_with("accepted                1,234"), "{shown:?}");
        assert_eq!(shown[23], "q ends");
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_shown_as_it_was_last_and_why_is_said_until_it_answers() {
        let mut view = view(TOLD);
        view.hear(Err("cannot ask 127.0.0.1:9: refused".into()));
        let lost = shown(&view, 80, 24);
        assert_eq!(lost[23], "trying again: cannot ask 127.0.0.1:9: refused");
        assert!(lost[3].starts_with("open                        7"), "{lost:?}");
        view.hear(Ok(figures(&TOLD.replace("connections 7", "connections 8"), Instant::now())));
        let back = shown(&view, 80, 24);
        assert!(back[3].starts_with("open                        8") && back[23] == "q ends", "{back:?}");
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (10, 3), (80, 2), (200, 60)] {
            shown(&view(TOLD), width, height);
        }
    }
}
