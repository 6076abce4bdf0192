//! `hookline top`: what a running broker does, live in a terminal, or once as JSON.

mod screen;
mod snapshot;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigArguments;
use super::ctl::{Output, print_json};
use super::reach::running;
use crate::control::Control;
use snapshot::{Counted, Snapshot};

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);
/// How long a key may wait.
const KEYS: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// JSON, or where standard output is no terminal: one look, and out
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What the list of queues is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Waiting,
    Oldest,
    Name,
}

impl Order {
    const fn next(self) -> Order {
        match self {
            Order::Waiting => Order::Oldest,
            Order::Oldest => Order::Name,
            Order::Name => Order::Waiting,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Order::Waiting => "waiting",
            Order::Oldest => "oldest",
            Order::Name => "name",
        }
    }
}

/// What is on the screen.
struct View {
    snapshot: Snapshot,
    /// Why there is nothing newer.
    problem: Option<String>,
    is_paused: bool,
    order: Order,
    queues: TableState,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let control = running(arguments.config)?;
    let mut counted = Counted::now(&control)?;
    std::thread::sleep(REFRESH.min(Duration::from_millis(500)));
    let snapshot = Snapshot::take(&control, &mut counted)?;
    if arguments.output == Output::Json {
        print_json(&snapshot)?;
    } else if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        print!("{snapshot}");
    } else {
        let ended = end_by_signal()?;
        // Whatever way it ends, also in the middle of taking it over; a panic is seen to by ratatui's hook.
        let restored = Restored;
        let mut terminal = ratatui::try_init().context("cannot take the terminal over; -o json prints figures")?;
        let view = View { snapshot, problem: None, is_paused: false, order: Order::Waiting, queues: TableState::default() };
        let shown = show(&mut terminal, &control, counted, view, &ended);
        drop(restored);
        shown?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the terminal back.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Becomes true when a signal wants the end: the terminal must be given back first.
fn end_by_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let told = Arc::clone(&ended);
    // Never joined: it waits for signals until the process ends.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let signals = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
            let [Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)] = signals else { return };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
    })?;
    Ok(ended)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    control: &Control,
    mut counted: Counted,
    mut view: View,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    let mut looked = Instant::now();
    loop {
        terminal.draw(|frame| screen::draw(frame, &mut view))?;
        if ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        if event::poll(KEYS)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !press(&mut view, key)
        {
            return Ok(());
        }
        if !view.is_paused && looked.elapsed() >= REFRESH {
            looked = Instant::now();
            match Snapshot::take(control, &mut counted) {
                Ok(snapshot) => (view.snapshot, view.problem) = (snapshot, None),
                // A broker that is started anew is back on the same socket.
                Err(error) => view.problem = Some(format!("{error:#}")),
            }
        }
    }
}

/// A key; `false`: it was for the end.
fn press(view: &mut View, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p') => view.is_paused = !view.is_paused,
        KeyCode::Char('s') => view.order = view.order.next(),
        KeyCode::Down => view.queues.select_next(),
        KeyCode::Up => view.queues.select_previous(),
        _ => {}
    }
    true
}
