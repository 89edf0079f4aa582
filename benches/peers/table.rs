//! The table: a line for each quantity, a column for each server; medians, with the least and the most.

use crate::row::{Goal, Of, Quantity, Reading};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// Whether it is a build of ours.
    pub ours: bool,
    /// Whether its messages are on the disk before its 250: ratios are only to such peers.
    pub durable: bool,
}

/// A row with what was measured, by column.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its lines.
    pub quantities: Vec<Quantity>,
    /// By column, the readings; none where it is not measured.
    pub readings: Vec<Vec<Reading>>,
    /// The load alone.
    pub ceiling: Vec<Reading>,
}

/// The least, the median and the most.
type Spread = [f64; 3];

/// The table in Markdown, with its columns aligned.
pub fn render(columns: &[Column], rows: &[Measured]) -> String {
    let mut lines = vec![head(columns)];
    for row in rows {
        for (number, quantity) in row.quantities.iter().enumerate() {
            lines.push(line(columns, row, number, quantity));
        }
    }
    align(&lines)
}

fn head(columns: &[Column]) -> Vec<String> {
    let last = [
        "load alone",
        "to the best durable peer",
        "at least",
        "reached",
        "the load's processors",
    ];
    let mut head = vec!["work".to_owned()];
    head.extend(columns.iter().map(|column| column.name.clone()));
    if has_two_builds(columns) {
        head.push("to the first build".to_owned());
    }
    head.extend(last.map(String::from));
    head
}

fn has_two_builds(columns: &[Column]) -> bool {
    columns.iter().filter(|column| column.ours).count() > 1
}

/// The medians of some columns, with their names.
fn medians<'a>(
    columns: &'a [Column],
    spreads: &[Option<Spread>],
    wanted: impl Fn(&Column) -> bool,
) -> Vec<(&'a str, f64)> {
    let of =
        |(column, spread): (&'a Column, &Option<Spread>)| Some((column.name.as_str(), spread.as_ref()?[1]));
    columns
        .iter()
        .zip(spreads)
        .filter(|(column, _)| wanted(column))
        .filter_map(of)
        .collect()
}

fn line(columns: &[Column], row: &Measured, number: usize, quantity: &Quantity) -> Vec<String> {
    let spreads: Vec<Option<Spread>> = row
        .readings
        .iter()
        .map(|readings| spread(readings, number))
        .collect();
    // How many times as good as another one.
    let gain = |value: f64, other: f64| {
        if quantity.less_is_better {
            other / value
        } else {
            value / other
        }
    };
    let best = |values: Vec<(&str, f64)>| {
        values
            .into_iter()
            .map(|(_, value)| value)
            .reduce(|a, b| if gain(a, b) > 1.0 { a } else { b })
    };
    let ours = medians(columns, &spreads, |column| column.ours);
    let peers = medians(columns, &spreads, |column| !column.ours);
    let best_durable = best(medians(columns, &spreads, |column| {
        column.durable && !column.ours
    }));
    let of_each = |say: &dyn Fn(f64) -> Option<String>| {
        ours.iter()
            .filter_map(|(_, value)| say(*value))
            .collect::<Vec<String>>()
            .join(", ")
    };

    let mut cells = vec![quantity.title.clone()];
    cells.extend(spreads.iter().map(cell));
    if has_two_builds(columns) {
        let first = ours.first().map_or(f64::NAN, |(_, value)| *value);
        let others = ours.iter().skip(1).map(|(_, value)| short(gain(*value, first)));
        cells.push(others.collect::<Vec<String>>().join(", "));
    }
    cells.push(cell(&spread(&row.ceiling, number)));
    cells.push(of_each(&|value| {
        best_durable.map(|best| short(gain(value, best)))
    }));
    cells.push(quantity.goal.map_or(String::new(), |goal| goal.words.to_owned()));
    cells.push(of_each(&|value| {
        let ratio = best_durable.map(|best| gain(value, best));
        let verdict = quantity
            .goal
            .and_then(|goal| reached(goal, quantity.less_is_better, value, ratio));
        match peers.iter().find(|(_, other)| gain(value, *other) < 1.0) {
            Some((name, _)) => Some(format!("behind {name}")),
            None => verdict.map(str::to_owned),
        }
    }));
    cells.push(tools(columns, row));
    cells
}

/// Whether a goal is reached.
fn reached(goal: Goal, less_is_better: bool, ours: f64, ratio: Option<f64>) -> Option<&'static str> {
    let reaches = |wanted: f64| match goal.of {
        Of::Peers => ratio.map(|ratio| ratio >= wanted),
        Of::Value if less_is_better => Some(ours <= wanted),
        Of::Value => Some(ours >= wanted),
    };
    Some(match (reaches(goal.aim)?, reaches(goal.at_least)?) {
        (true, _) => "aim",
        (false, true) => "yes",
        (false, false) => "no",
    })
}

fn tools(columns: &[Column], row: &Measured) -> String {
    let ours = columns
        .iter()
        .zip(&row.readings)
        .filter(|(column, _)| column.ours);
    let shares: Vec<String> = ours
        .filter_map(|(_, readings)| {
            let mut shares: Vec<f64> = readings.iter().filter_map(|reading| reading.tool).collect();
            shares.sort_by(f64::total_cmp);
            shares.get(shares.len() / 2).map(|share| format!("{share:.2}"))
        })
        .collect();
    shares.join(", ")
}

fn spread(readings: &[Reading], number: usize) -> Option<Spread> {
    let mut values: Vec<f64> = readings
        .iter()
        .filter_map(|reading| reading.values.get(number).copied())
        .collect();
    values.sort_by(f64::total_cmp);
    let (first, last) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    };
    Some([first, median, last])
}

fn cell(spread: &Option<Spread>) -> String {
    match spread {
        None => String::new(),
        Some([least, median, most]) if least == most => short(*median),
        Some([least, median, most]) => format!("{} ({}–{})", short(*median), short(*least), short(*most)),
    }
}

/// Three digits that count.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            text += &format!("| {cell:width$} ");
        }
        text += "|\n";
        if number == 0 {
            for width in &widths {
                text += &format!("|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}
