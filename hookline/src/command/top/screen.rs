//! The screen of `hookline top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::snapshot::{ConnectorState, Drops, Snapshot, owner};
use super::{Order, View};
use crate::command::report::{one_line, size};

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let connectors = u16::try_from(view.snapshot.connectors.len()).unwrap_or(u16::MAX).saturating_add(2).clamp(3, 10);
    let [head, middle, bottom, keys] =
        Layout::vertical([Constraint::Length(5), Constraint::Min(6), Constraint::Length(connectors), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(header(view), head);
    let [left, right] = Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(middle);
    queues(frame, left, view);
    frame.render_widget(drops(&view.snapshot.drops), right);
    frame.render_widget(connector_table(&view.snapshot.connectors), bottom);
    let help = format!(
        "q quit   p {}   s sorted by {}   arrows choose a queue",
        if view.is_paused { "go on" } else { "pause" },
        view.order.name()
    );
    frame.render_widget(Paragraph::new(help).style(Style::new().add_modifier(Modifier::DIM)), keys);
}

fn header(view: &View) -> Paragraph<'_> {
    let snapshot = &view.snapshot;
    let bold = |text: String| Span::styled(text, Style::new().add_modifier(Modifier::BOLD));
    let first = Line::from(vec![
        bold(format!("{} {}", snapshot.node, snapshot.version)),
        Span::raw(format!("   up {}", snapshot.uptime())),
        Span::styled(if view.is_paused { "   PAUSED" } else { "" }, Style::new().fg(Color::Yellow)),
    ]);
    let Snapshot { connections, sessions, subscriptions, retained, .. } = snapshot;
    let second = Line::from(vec![
        bold(connections.to_string()),
        Span::raw(format!(" connections   {sessions} sessions   {subscriptions} subscriptions   {retained} retained")),
    ]);
    let third = Line::from(vec![
        Span::raw("messages/s  in "),
        bold(format!("{:.1}", snapshot.received_rate)),
        Span::raw("   out "),
        bold(format!("{:.1}", snapshot.sent_rate)),
        Span::raw("   dropped "),
        Span::styled(
            format!("{:.1}", snapshot.dropped_rate),
            if snapshot.dropped_rate > 0.0 { Style::new().fg(Color::Yellow) } else { Style::new() },
        ),
    ]);
    let fourth =
        Line::raw(format!("commit {}   memory {}   CPU {:.1} %", snapshot.commit(), size(snapshot.memory_bytes), snapshot.cpu_percent));
    let fifth = match (&view.problem, snapshot.alarms.as_slice()) {
        (Some(problem), _) => Line::styled(one_line(problem, 200), Style::new().fg(Color::Red)),
        (None, []) => Line::styled("no alarm", Style::new().add_modifier(Modifier::DIM)),
        (None, alarms) => Line::styled(format!("ALARM {}", one_line(&alarms.join("; "), 200)), Style::new().fg(Color::Red)),
    };
    Paragraph::new(vec![first, second, third, fourth, fifth])
}

fn queues(frame: &mut Frame<'_>, area: Rect, view: &mut View) {
    let queues = &mut view.snapshot.queues;
    match view.order {
        Order::Waiting => queues.sort_by_key(|queue| std::cmp::Reverse(queue.ledger.pending)),
        Order::Oldest => queues.sort_by_key(|queue| std::cmp::Reverse(queue.oldest_secs)),
        Order::Name => queues.sort_by(|a, b| a.name.cmp(&b.name)),
    }
    let rows = queues.iter().map(|queue| {
        let oldest = queue.oldest_secs.map_or_else(|| "-".to_owned(), |secs| format!("{secs} s"));
        let row = Row::new([
            Cell::from(owner(queue.kind)),
            Cell::from(one_line(&queue.name, 40)),
            number(queue.ledger.pending),
            right(size(queue.ledger.pending_bytes)),
            right(oldest),
            number(queue.dead_letters),
        ]);
        if queue.dead_letters > 0 || !queue.balances { row.style(Style::new().fg(Color::Yellow)) } else { row }
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Min(10),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(6),
    ];
    let head = Row::new([
        Cell::from("queue"),
        Cell::from("of"),
        right("waiting".into()),
        right("bytes".into()),
        right("oldest".into()),
        right("dead".into()),
    ]);
    let table = Table::new(rows, widths)
        .header(head.style(Style::new().add_modifier(Modifier::BOLD)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title("queues"));
    frame.render_stateful_widget(table, area, &mut view.queues);
}

fn drops(drops: &[Drops]) -> Table<'_> {
    let rows = drops.iter().map(|Drops { reason, count, rate }| {
        let row = Row::new([Cell::from(reason.as_str()), number(*count), right(format!("{rate:.1}"))]);
        if *rate > 0.0 { row.style(Style::new().fg(Color::Yellow)) } else { row }
    });
    let head = Row::new([Cell::from("reason"), right("all".into()), right("a second".into())]);
    Table::new(rows, [Constraint::Min(16), Constraint::Length(10), Constraint::Length(9)])
        .header(head.style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title("drops"))
}

fn connector_table(connectors: &[ConnectorState]) -> Table<'_> {
    let rows = connectors.iter().map(|ConnectorState { name, kind, status, reason }| {
        let color = match status.as_deref() {
            Some("connected") => Color::Green,
            Some("disconnected" | "retrying") => Color::Red,
            _ => Color::Reset,
        };
        let status = Cell::from(status.as_deref().unwrap_or("not used")).style(Style::new().fg(color));
        Row::new([
            Cell::from(name.as_str()),
            Cell::from(kind.as_str()),
            status,
            Cell::from(one_line(reason.as_deref().unwrap_or_default(), 120)),
        ])
    });
    Table::new(rows, [Constraint::Length(20), Constraint::Length(10), Constraint::Length(13), Constraint::Min(10)])
        .block(Block::bordered().title("connectors"))
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::raw(text).right_aligned())
}

fn number(number: u64) -> Cell<'static> {
    right(number.to_string())
}
