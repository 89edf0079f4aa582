//! The table: a line for each quantity, a column for each server; medians, with the least and the most.

use crate::row::{Goal, Of, Quantity, Reading};

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its head.
    pub name: String,
    /// Whether it is a build of ours.
    pub ours: bool,
    /// Whether ratios may be to it: a durable peer.
    pub durable_peer: bool,
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
    let mut head = vec!["work".to_owned()];
    head.extend(columns.iter().map(|column| column.name.clone()));
    head.extend(
        [
            "load alone",
            "to the best durable peer",
            "at least",
            "reached",
            "our load's processors",
        ]
        .map(String::from),
    );
    head
}

fn line(columns: &[Column], row: &Measured, number: usize, quantity: &Quantity) -> Vec<String> {
    let spreads: Vec<Option<Spread>> = row
        .readings
        .iter()
        .map(|readings| spread(readings, number))
        .collect();
    let best = columns
        .iter()
        .zip(&spreads)
        .filter(|(column, _)| column.durable_peer)
        .filter_map(|(_, spread)| spread.map(|[_, median, _]| median))
        .reduce(|a, b| {
            if quantity.less_is_better {
                a.min(b)
            } else {
                a.max(b)
            }
        });
    let ours: Vec<f64> = columns
        .iter()
        .zip(&spreads)
        .filter(|(column, _)| column.ours)
        .filter_map(|(_, spread)| spread.map(|[_, median, _]| median))
        .collect();
    let ratio = |ours: f64| {
        best.map(|best| {
            if quantity.less_is_better {
                best / ours
            } else {
                ours / best
            }
        })
    };

    let mut cells = vec![quantity.title.clone()];
    cells.extend(spreads.iter().map(cell));
    cells.push(cell(&spread(&row.ceiling, number)));
    let ratios: Vec<String> = ours.iter().filter_map(|ours| ratio(*ours)).map(short).collect();
    cells.push(ratios.join(", "));
    cells.push(quantity.goal.map_or(String::new(), |goal| goal.words.to_owned()));
    let reached: Vec<&str> = ours
        .iter()
        .filter_map(|ours| reached(quantity.goal?, quantity.less_is_better, *ours, ratio(*ours)))
        .collect();
    cells.push(reached.join(", "));
    cells.push(tools(columns, row));
    cells
}

/// Whether a goal is reached.
fn reached(goal: Goal, less_is_better: bool, ours: f64, ratio: Option<f64>) -> Option<&'static str> {
    let reaches = |goal_value: f64| match goal.of {
        Of::Peers => ratio.map(|ratio| ratio >= goal_value),
        Of::Value => Some(if less_is_better {
            ours <= goal_value
        } else {
            ours >= goal_value
        }),
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
