//! The tables, in Markdown. Each has a name, by which a page asks for it.

use super::{Cell, Rows, Shown, grouped, short};
use crate::contenders::Contender;
use crate::plan::{Block, Figure, Goal, LIMIT, PLAIN, POLLING, ROOMCAST, TLS, TWO_SHARDS};
use crate::results::{Load, Run};
use crate::statistics::Spread;

/// All tables of these runs, for the end of a run.
pub fn of(runs: &[Run]) -> anyhow::Result<String> {
    let rows = Rows::of(runs)?;
    let names = [
        "ratios",
        "figures",
        "throughput",
        "latency",
        "polling",
        "tls",
        "members",
        "rooms",
        "connections",
        "shards",
        "cycles",
        "storm",
        "faults",
    ];
    let mut text = String::new();
    for name in names {
        let table = named(name, &rows, runs)?;
        if !table.is_empty() {
            text.push_str(&format!("## {name}\n\n{table}\n"));
        }
    }
    Ok(text)
}

/// The table of that name; empty where there is nothing to show.
pub fn named(name: &str, rows: &Rows, runs: &[Run]) -> anyhow::Result<String> {
    let text = match name {
        "readme" => readme(rows, runs),
        "ratios" => main(rows, Show::Ratios),
        "figures" => main(rows, Show::Figures),
        "polling" => compared(&rows.of_block(Block::Polling), "socketioxide"),
        "tls" => compared(&rows.of_block(Block::Tls), "the limit in clear"),
        "shards" => compared(&rows.of_block(Block::Shards), "one shard"),
        "members" => curve(&rows.of_block(Block::Members), "members"),
        "rooms" => curve(&rows.of_block(Block::Rooms), "rooms"),
        "connections" => curve(&rows.of_block(Block::Connections), "connections"),
        "cycles" => cycles(rows),
        "storm" => storm(rows),
        "throughput" => throughput(rows),
        "latency" => latency(rows),
        "faults" => faults(rows),
        "machine" => machine(runs),
        _ => anyhow::bail!("there is no table `{name}`"),
    };
    Ok(text)
}

/// Which of a cell's figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    /// Over the limit's, with the spread.
    Ratios,
    /// Over the limit's, the median alone.
    Short,
    /// As measured.
    Figures,
}

/// What the README shows: nothing until there are figures of whole runs; those of quick ones want the words of the page around them.
fn readme(rows: &Rows, runs: &[Run]) -> String {
    if runs.iter().any(|run| run.quick) {
        return String::new();
    }
    match main(rows, Show::Short) {
        table if table.is_empty() => table,
        table => {
            format!("![CPU and memory of several servers beside the limit](docs/performance/overview.svg)\n\n{table}")
        }
    }
}

/// The rows in which everybody takes part.
fn main(rows: &Rows, show: Show) -> String {
    let blocks = [Block::Idle, Block::Connect, Block::FanOut, Block::Ack];
    let shown: Vec<&Shown> = blocks.into_iter().flat_map(|block| rows.of_block(block)).collect();
    if shown.is_empty() {
        return String::new();
    }
    // Both limits share a column: a row has one of them.
    let mut columns: Vec<Contender> = Vec::new();
    for contender in shown.iter().flat_map(|shown| shown.row.contenders.iter()) {
        let contender = if contender.server.is_limit() { LIMIT } else { *contender };
        if !columns.contains(&contender) && shown.iter().any(|shown| cell(shown, contender).is_some()) {
            columns.push(contender);
        }
    }
    let mut head: Vec<String> = vec![if show == Show::Figures { "server's CPU, µs" } else { "× the limit" }.to_owned()];
    head.extend(columns.iter().map(Contender::label));
    if show != Show::Figures {
        head.push("goal".to_owned());
    }
    let mut table = Table::new(head);
    for shown in shown {
        let mut line = vec![shown.row.title.clone()];
        for column in &columns {
            line.push(cell(shown, *column).map_or("–".to_owned(), |cell| main_cell(shown, *column, cell, show)));
        }
        if show != Show::Figures {
            line.push(goals(shown));
        }
        table.line(line);
    }
    table.text
}

fn cell(shown: &Shown, column: Contender) -> Option<&Cell> {
    let contender = if column == LIMIT { shown.row.base? } else { column };
    shown.cells.get(&contender)
}

fn main_cell(shown: &Shown, column: Contender, cell: &Cell, show: Show) -> String {
    let unit = shown.row.figure.unit();
    let Some(ratio) =
        cell.ratios.filter(|_| column != LIMIT && shown.row.figure == Figure::Cpu && show != Show::Figures)
    else {
        let text = format!("{} {unit}", short(cell.figures.median));
        let text = if column.server == ROOMCAST.server { format!("**{text}**") } else { text };
        return text + if cell.faults.is_empty() { "" } else { " ¹" };
    };
    let mut text = short(ratio.median);
    if column.server == ROOMCAST.server {
        text = format!("**{text}**");
    }
    if show == Show::Ratios && ratio.count > 1 {
        text.push_str(&format!(" ({}–{})", short(ratio.least), short(ratio.most)));
    }
    if !cell.faults.is_empty() {
        text.push_str(" ¹");
    }
    text
}

/// The row's goals, each with whether the median reaches it; of ways of speaking that share goal and outcome, once.
fn goals(shown: &Shown) -> String {
    let mut texts: Vec<(String, Contender)> = Vec::new();
    for (contender, goal) in &shown.row.goals {
        let Some(cell) = shown.cells.get(contender) else { continue };
        let (sign, bound, figure) = match *goal {
            Goal::Times(times) => ('≤', times, cell.ratios.map(|ratio| ratio.median)),
            Goal::AtLeastTimes(times) => ('≥', times, cell.ratios.map(|ratio| ratio.median)),
            Goal::AtMost(most) => ('≤', most, Some(cell.figures.median)),
        };
        let unit =
            if matches!(goal, Goal::AtMost(_)) { format!(" {}", shown.row.figure.unit()) } else { String::new() };
        let verdict = match figure {
            Some(figure) if (sign == '≤') == (figure <= bound) || figure == bound => " ✓",
            Some(_) => " **missed**",
            None => "",
        };
        let text = format!("{sign} {bound}{unit}{verdict}");
        if texts.iter().all(|(known, _)| *known != text) {
            texts.push((text, *contender));
        }
    }
    match texts.as_slice() {
        [(text, _)] => text.clone(),
        texts => {
            let named = |(text, contender): &(String, Contender)| {
                if *contender == PLAIN { format!("plain {text}") } else { text.clone() }
            };
            texts.iter().map(named).collect::<Vec<_>>().join(", ")
        }
    }
}

/// The goals, in the line of the one that has them.
fn own_goals(shown: &Shown, contender: Contender) -> String {
    let has_one = shown.row.goals.iter().any(|(whose, _)| *whose == contender);
    if has_one { goals(shown) } else { String::new() }
}

/// Rows beside a base: each figure, and how often the base's it is.
fn compared(rows: &[&Shown], base: &str) -> String {
    let mut table = Table::new(
        ["", "who", "server's figure", &format!("× {base}"), "from round to round", "goal"].map(str::to_owned).to_vec(),
    );
    for shown in rows {
        for (contender, cell) in &shown.cells {
            let unit = if shown.row.figure == Figure::Memory { "KiB" } else { "µs" };
            let name = contender.label();
            let name = if [POLLING, TLS, TWO_SHARDS].contains(contender) { format!("**{name}**") } else { name };
            let is_base = shown.row.base == Some(*contender);
            let ratio = cell.ratios.filter(|_| !is_base);
            table.line(vec![
                shown.row.title.clone(),
                name + if cell.faults.is_empty() { "" } else { " ¹" },
                format!("{} {unit}", short(cell.figures.median)),
                ratio.map_or("–".to_owned(), |ratio| short(ratio.median)),
                ratio.map_or("–".to_owned(), |ratio| format!("{}–{}", short(ratio.least), short(ratio.most))),
                own_goals(shown, *contender),
            ]);
        }
    }
    table.unless_empty()
}

/// The points of a curve.
fn curve(rows: &[&Shown], axis: &str) -> String {
    let mut table = Table::new(
        [axis, "the limit, µs", "Roomcast, µs", "× the limit", "from round to round"].map(str::to_owned).to_vec(),
    );
    for shown in rows {
        let median =
            |contender| shown.cells.get(&contender).map_or("–".to_owned(), |cell: &Cell| short(cell.figures.median));
        let ratio = shown.cells.get(&ROOMCAST).and_then(|cell| cell.ratios);
        table.line(vec![
            grouped(shown.row.x.unwrap_or_default() as i64),
            median(LIMIT),
            median(ROOMCAST),
            ratio.map_or("–".to_owned(), |ratio| short(ratio.median)),
            ratio.map_or("–".to_owned(), |ratio| format!("{}–{}", short(ratio.least), short(ratio.most))),
        ]);
    }
    table.unless_empty()
}

/// Memory and descriptors after each crowd has left.
fn cycles(rows: &Rows) -> String {
    let Some(load) = rows.named("cycles").and_then(|shown| shown.cells.get(&ROOMCAST)?.loads.last()) else {
        return String::new();
    };
    let mut table =
        Table::new(["after cycle", "resident memory, MiB", "× the second", "descriptors"].map(str::to_owned).to_vec());
    let cycles = load.cycles.as_deref().unwrap_or_default();
    for (index, cycle) in cycles.iter().enumerate() {
        table.line(vec![
            (index + 1).to_string(),
            short(cycle.resident_kib / 1024.0),
            cycles.get(1).map_or("–".to_owned(), |second| short(cycle.resident_kib / second.resident_kib)),
            grouped(cycle.descriptors as i64),
        ]);
    }
    table.unless_empty()
}

/// Who is back when, and what the others saw meanwhile.
fn storm(rows: &Rows) -> String {
    let Some(shown) = rows.named("storm") else { return String::new() };
    let head = ["", "all are back after", "refused on the way", "p99 before", "p50 during", "p99 during", "longest"];
    let mut table = Table::new(head.map(str::to_owned).to_vec());
    for (contender, cell) in &shown.cells {
        let median = |of: &dyn Fn(&Load) -> Option<f64>| Spread::of(cell.loads.iter().filter_map(of));
        let millis = |spread: Option<Spread>| {
            spread.map_or("–".to_owned(), |spread| format!("{} ms", short(spread.median / 1000.0)))
        };
        let before = median(&|load| load.storm.as_ref().map(|storm| storm.before_p99_micros));
        let during = |name| median(&|load| load.latency_micros.as_ref()?.get(name).copied());
        let refused = median(&|load| load.storm.as_ref().map(|storm| storm.refused));
        table.line(vec![
            contender.label() + if cell.faults.is_empty() { "" } else { " ¹" },
            format!("{} s ({}–{})", short(cell.figures.median), short(cell.figures.least), short(cell.figures.most)),
            refused.map_or("–".to_owned(), |spread| grouped(spread.median as i64)),
            millis(before),
            millis(during("p50")),
            millis(during("p99")),
            millis(during("max")),
        ]);
    }
    table.unless_empty()
}

/// How many events a second come from the broker to sockets.
fn throughput(rows: &Rows) -> String {
    let head =
        ["", "who", "events a second", "× a consumer that only acknowledges", "server's CPU for an event", "goal"];
    let mut table = Table::new(head.map(str::to_owned).to_vec());
    for shown in rows.of_block(Block::Source).into_iter().filter(|shown| shown.row.figure == Figure::Throughput) {
        for (contender, cell) in &shown.cells {
            let cpu = |load: &Load| Some(load.server.as_ref()?.cpu_seconds? / load.events? * 1e6);
            let cpu = Spread::of(cell.loads.iter().filter_map(cpu));
            let ratio = cell.ratios.filter(|_| shown.row.base != Some(*contender));
            table.line(vec![
                shown.row.title.clone(),
                named_one(*contender, cell),
                short(cell.figures.median),
                ratio.map_or("–".to_owned(), |ratio| short(ratio.median)),
                cpu.map_or("–".to_owned(), |cpu| format!("{} µs", short(cpu.median))),
                own_goals(shown, *contender),
            ]);
        }
    }
    table.unless_empty()
}

/// How long an event takes from the broker's publisher to a client.
fn latency(rows: &Rows) -> String {
    let mut table = Table::new(["", "who", "p50", "p99", "longest", "goal for p99"].map(str::to_owned).to_vec());
    for shown in rows.of_block(Block::Source).into_iter().filter(|shown| shown.row.figure == Figure::Latency) {
        for (contender, cell) in &shown.cells {
            let millis = |name| {
                let of_load = |load: &Load| load.latency_micros.as_ref()?.get(name).copied();
                let spread = Spread::of(cell.loads.iter().filter_map(of_load));
                spread.map_or("–".to_owned(), |spread| format!("{} ms", short(spread.median / 1000.0)))
            };
            let name = named_one(*contender, cell);
            let goal = own_goals(shown, *contender);
            table.line(vec![shown.row.title.clone(), name, millis("p50"), millis("p99"), millis("max"), goal]);
        }
    }
    table.unless_empty()
}

/// The contender's name, the gateway's in bold, with a mark where something went wrong.
fn named_one(contender: Contender, cell: &Cell) -> String {
    let label = contender.label();
    let label = if contender.server.is_gateway() { format!("**{label}**") } else { label };
    label + if cell.faults.is_empty() { "" } else { " ¹" }
}

/// What went wrong, and for whom.
fn faults(rows: &Rows) -> String {
    let mut text = String::new();
    let mut sound = 0;
    for shown in &rows.0 {
        for (contender, cell) in &shown.cells {
            if cell.faults.is_empty() {
                sound += cell.loads.len();
                continue;
            }
            let kinds: Vec<String> = cell
                .faults
                .iter()
                .map(|(kind, count)| format!("{} {}", grouped(*count as i64), kind.replace('_', " ")))
                .collect();
            text.push_str(&format!("* ¹ {}, {}: {}\n", contender.label(), shown.row.title, kinds.join(", ")));
        }
        for (contender, rounds) in &shown.failures {
            let (who, title, s) = (contender.label(), &shown.row.title, if *rounds == 1 { "" } else { "s" });
            text.push_str(&format!("* {who}, {title}: no figure in {rounds} round{s}; the results say why\n"));
        }
    }
    if sound > 0 {
        text.push_str(&format!(
            "* All others, {} measurements: nothing lost, doubled, out of order or in the wrong room.\n",
            grouped(sound as i64)
        ));
    }
    text
}

/// Where the figures come from.
fn machine(runs: &[Run]) -> String {
    let mut text = String::new();
    for run in runs {
        let facts: Vec<String> = run.machine.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let versions: Vec<String> = run.versions.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let kind = if run.quick { "a quick run" } else { "a whole run" };
        text.push_str(&format!(
            "* {}, commit `{}`, seed {}: {kind} of {} measurements\n",
            run.date,
            run.commit,
            run.seed,
            grouped(run.measurements.len() as i64)
        ));
        text.push_str(&format!("  * {}\n  * {}\n", facts.join("; "), versions.join("; ")));
        for (who, reason) in &run.not_run {
            text.push_str(&format!("  * not run: {who}, {reason}\n"));
        }
    }
    text
}

/// A table as it grows.
struct Table {
    text: String,
    lines: usize,
}

impl Table {
    fn new(head: Vec<String>) -> Self {
        let rule = "|---".repeat(head.len()) + "|\n";
        let mut table = Self { text: String::new(), lines: 0 };
        table.line(head);
        table.text.push_str(&rule);
        table.lines = 0;
        table
    }

    fn line(&mut self, cells: Vec<String>) {
        self.text.push_str(&format!("| {} |\n", cells.join(" | ")));
        self.lines += 1;
    }

    fn unless_empty(self) -> String {
        if self.lines == 0 { String::new() } else { self.text }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::results::{Measurement, VERSION};

    fn measurement(row: &str, round: usize, contender: Contender, cpu: f64, disordered: u64) -> Measurement {
        let load = json!({
            "units": 1000.0, "seconds": 1.0, "faults": { "lost": 0, "disordered": disordered },
            "server": { "cpu_micros_per_unit": cpu, "kib_per_unit": null }, "latency_micros": null,
        });
        Measurement { row: row.to_owned(), round, contender: contender.key(), load, error: None }
    }

    fn run(measurements: Vec<Measurement>) -> Run {
        Run {
            version: VERSION,
            date: "2026-01-01T00:00:00Z".to_owned(),
            commit: "0123456789".to_owned(),
            seed: 7,
            quick: false,
            machine: [].into(),
            versions: [].into(),
            not_run: [].into(),
            measurements,
        }
    }

    fn check(name: &str, runs: &[Run], expected: &str) {
        let rows = Rows::of(runs).expect("figures");
        assert_eq!(named(name, &rows, runs).expect("a table"), expected, "{name}");
    }

    #[test]
    fn ratios_are_paired_and_faults_are_marked() {
        let runs = [run(vec![
            measurement("fan-out-1", 0, LIMIT, 4.0, 0),
            measurement("fan-out-1", 0, ROOMCAST, 4.4, 0),
            measurement("fan-out-1", 1, ROOMCAST, 9.0, 0),
            measurement("fan-out-1", 1, LIMIT, 8.0, 0),
            measurement("fan-out-1", 0, PLAIN, 8.0, 3),
            Measurement { load: Value::Null, ..measurement("fan-out-1", 1, PLAIN, 0.0, 0) },
        ])];
        let expected = "\
            | × the limit | the limit | Roomcast | Roomcast, plain JSON | goal |\n\
            |---|---|---|---|---|\n\
            | a delivery: 1,000 members, one event in flight | 6.00 µs | **1.11** (1.10–1.12) | **2.00** ¹ | ≤ 1.15 ✓, plain ≤ 1.15 **missed** |\n";
        check("ratios", &runs, expected);
        let expected = "\
            * ¹ Roomcast, plain JSON, a delivery: 1,000 members, one event in flight: 3 disordered\n\
            * Roomcast, plain JSON, a delivery: 1,000 members, one event in flight: no figure in 1 round; the results say why\n\
            * All others, 4 measurements: nothing lost, doubled, out of order or in the wrong room.\n";
        check("faults", &runs, expected);
    }

    #[test]
    fn a_later_run_of_other_programs_replaces_the_rows_that_it_has_and_one_of_the_same_adds_rounds() {
        let first =
            run(vec![measurement("members/10", 0, ROOMCAST, 5.0, 0), measurement("members/30", 0, ROOMCAST, 4.0, 0)]);
        let second = run(vec![measurement("members/30", 0, ROOMCAST, 3.0, 0)]);
        let table = |of_30: &str| {
            format!(
                "\
                | members | the limit, µs | Roomcast, µs | × the limit | from round to round |\n\
                |---|---|---|---|---|\n\
                | 10 | – | 5.00 | – | – |\n\
                | 30 | – | {of_30} | – | – |\n"
            )
        };
        let changed =
            Run { commit: "123456789a".to_owned(), ..run(vec![measurement("members/30", 0, ROOMCAST, 3.0, 0)]) };
        check("members", &[run(first.measurements.clone()), changed], &table("3.00"));
        check("members", &[first, second], &table("3.50"));
    }

    #[test]
    fn what_was_not_measured_has_no_table() {
        for name in ["ratios", "polling", "members", "cycles", "storm", "throughput", "latency", "faults"] {
            check(name, &[], "");
        }
    }
}
