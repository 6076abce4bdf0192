//! What the commands tell of the store, as text for people.

use std::fmt::Write;

use hookline_core::store::{CheckReport, QueueKind, QueueStats, Stats};

/// What a check has found.
pub(super) fn check(report: &CheckReport) -> String {
    let mut out = format!(
        "{} chunks with {} and {} records; {} queues, in which {} records wait\n",
        report.chunks,
        size(report.chunk_bytes),
        report.records,
        report.queues,
        report.pending
    );
    let entries: Vec<String> = report.entries.iter().map(|(family, count)| format!("{family} {count}")).collect();
    line(&mut out, format_args!("entries: {}", entries.join(", ")));
    for (count, what) in [
        (report.lost_writes, "writes that had been synced were not there when the store was opened: files are damaged, missing or old"),
        (report.lost_records, "records of queues were not there when the store was opened; they count as dropped"),
        (report.damaged_entries, "entries made no sense when the store was opened; the log of that start names them"),
    ] {
        if count > 0 {
            line(&mut out, format_args!("{count} {what}"));
        }
    }
    for aside in &report.set_aside {
        line(&mut out, format_args!("{} holds a damaged store ({}); remove it when nothing of it is needed", aside.folder, aside.why));
    }
    for problem in &report.problems {
        line(&mut out, format_args!("{}: {}", problem.family, problem.problem));
    }
    let more = report.problem_count.saturating_sub(report.problems.len() as u64);
    if more > 0 {
        line(&mut out, format_args!("and {more} more"));
    }
    let verdict = match (report.complete, report.is_clean()) {
        (false, _) => "the check was stopped before its end",
        (true, true) => "all of it fits together",
        (true, false) => "not all is well: the rest is served on, and a backup brings back what is damaged (hookline store restore)",
    };
    out + verdict
}

/// The figures of the store.
pub(super) fn stats(stats: &Stats, queues: &[QueueStats]) -> String {
    let level = format!("{:?}", stats.level).to_lowercase();
    let mut out = format!("store   {} of node {}, level {level}, format {}\n", stats.folder, stats.node, stats.format);
    if stats.is_full {
        line(&mut out, format_args!("full    nothing new is taken: its disk is nearly full, or it is at store.bytes_max"));
    }
    let (tables, logs) = (size(stats.table_bytes), size(stats.log_bytes));
    line(
        &mut out,
        format_args!(
            "disk    {}: {} tables with {tables}, {} logs with {logs}; {} in memory",
            size(stats.disk_bytes),
            stats.table_files,
            stats.log_files,
            size(stats.memory_bytes)
        ),
    );
    line(
        &mut out,
        format_args!(
            "holds   {} sessions, {} retained messages ({}), {} delayed messages, {} dead letters",
            stats.sessions,
            stats.retained,
            size(stats.retained_bytes),
            stats.delayed,
            stats.dead_letters
        ),
    );
    line(&mut out, format_args!("queues  {}, with {} records ({})", stats.queue_count, stats.pending, size(stats.pending_bytes)));
    line(&mut out, format_args!("\n{:16} {:>12} {:>7} {:>10} {:>10}", "family", "entries", "tables", "size", "in memory"));
    for family in &stats.families {
        line(
            &mut out,
            format_args!(
                "{:16} {:>12} {:>7} {:>10} {:>10}",
                family.name,
                family.entries,
                family.table_files,
                size(family.table_bytes),
                size(family.memory_bytes)
            ),
        );
    }
    out + &accounts(stats, queues)
}

fn accounts(stats: &Stats, queues: &[QueueStats]) -> String {
    let mut out = format!(
        "\n{:8} {:32} {:>10} {:>10} {:>8} {:>12} {:>12} {:>10} {:>10} {:>10}  balances",
        "kind", "name", "pending", "size", "oldest", "accepted", "delivered", "dead", "dropped", "expired"
    );
    for QueueStats { kind, name, balances, ledger: l, oldest_secs, .. } in queues {
        let kind = match kind {
            QueueKind::Session => "session",
            QueueKind::Action => "action",
        };
        let (waits, oldest) = (size(l.pending_bytes), oldest_secs.map_or_else(|| "-".to_owned(), age));
        let balances = if *balances { "yes" } else { "NO" };
        let (accepted, delivered, dead, dropped, expired) = (l.accepted, l.delivered, l.dead_lettered, l.dropped, l.expired);
        out.push('\n');
        out += &format!(
            "{kind:8} {name:32} {:>10} {waits:>10} {oldest:>8} {accepted:>12} {delivered:>12} {dead:>10} {dropped:>10} {expired:>10}  {balances}",
            l.pending
        );
    }
    let more = stats.queue_count.saturating_sub(queues.len() as u64);
    if more > 0 {
        out += &format!("\nand {more} more; --limit 0 shows them all");
    }
    out
}

/// Bytes as people say it.
pub(super) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for larger in ["kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Seconds as people say it.
fn age(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7_200 => format!("{} min", secs / 60),
        7_200..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

/// The beginning of a text, without what would upset a terminal.
pub(super) fn one_line(text: &str, chars_max: usize) -> String {
    let mut line: String = text.chars().take(chars_max).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(chars_max).is_some() {
        line.push('…');
    }
    line
}

fn line(out: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(out, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use hookline_core::store::{Problem, SetAside};

    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        let sizes = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_536_000, "1.5 MB"), (7_000_000_000_000_000, "7000.0 TB")];
        sizes.iter().for_each(|(bytes, expect)| assert_eq!(size(*bytes), *expect));
        let ages = [(119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")];
        ages.iter().for_each(|(secs, expect)| assert_eq!(age(*secs), *expect));
        assert_eq!((one_line("a\nb", 3).as_str(), one_line("äöü", 2).as_str()), ("a b", "äö…"));
    }

    #[test]
    fn findings_are_told_with_the_way_out() {
        let mut report = CheckReport { complete: true, chunks: 3, ..CheckReport::default() };
        assert!(check(&report).ends_with("all of it fits together"));
        report.problems.push(Problem { family: "chunk".into(), problem: "chunk 7 is missing".into() });
        report.problem_count = 2;
        report.set_aside.push(SetAside { folder: "data/store.damaged-1".into(), why: "checksum".into() });
        let text = check(&report);
        for expect in ["chunk: chunk 7 is missing\nand 1 more\n", "data/store.damaged-1 holds a damaged store (checksum)", "store restore"]
        {
            assert!(text.contains(expect), "{expect} is not in\n{text}");
        }
    }
}
