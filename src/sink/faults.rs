//! All the orders to misbehave: which of them holds at this stage, this time.
//!
//! Pure and repeatable: whether the nth occasion of an order is one of its percentage follows from the seed, the
//! order's place and n alone, whatever other sessions do meanwhile.

use super::fault::{ALWAYS, Deed, Fault};
use super::stage::Stage;

/// An order with what became of it so far.
#[derive(Clone, Debug)]
pub struct Order {
    /// The order.
    pub fault: Fault,
    /// How often it was met.
    pub met: u64,
    /// How often it was obeyed.
    pub done: u64,
}

/// The orders, in the order in which they were given.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    orders: Vec<Order>,
}

impl Faults {
    /// These orders; the same seed draws the same lots.
    #[must_use]
    pub fn new(seed: u64, faults: impl IntoIterator<Item = Fault>) -> Faults {
        let mut orders = Faults {
            seed,
            orders: Vec::new(),
        };
        faults.into_iter().for_each(|fault| orders.add(fault));
        orders
    }

    /// Adds an order behind those that there are.
    pub fn add(&mut self, fault: Fault) {
        self.orders.push(Order {
            fault,
            met: 0,
            done: 0,
        });
    }

    /// Forgets the orders that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&Fault) -> bool) {
        self.orders.retain(|order| keep(&order.fault));
    }

    /// The orders.
    #[must_use]
    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    /// What to do wrong at this stage; `about` is the address in question, where there is one. Every order that
    /// fits counts this occasion, the first one whose turn it is holds.
    pub fn draw(&mut self, stage: Stage, about: &str) -> Option<Deed> {
        let fits = |fault: &Fault| fault.deed != Deed::Early && fault.fits(stage, about);
        let place = self.first(fits)?;
        self.orders.get(place).map(|order| order.fault.deed.clone())
    }

    /// The stages whose replies are to be said together with the one at `stage`.
    pub fn draw_early(&mut self, stage: Stage) -> Vec<Stage> {
        let early = Stage::ALL
            .into_iter()
            .filter(|later| later.before() == Some(stage));
        early
            .filter(|later| {
                self.first(|fault| fault.deed == Deed::Early && fault.stage == *later)
                    .is_some()
            })
            .collect()
    }

    fn first(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<usize> {
        let mut first = None;
        for (place, order) in self.orders.iter_mut().enumerate() {
            if !fits(&order.fault) {
                continue;
            }
            order.met += 1;
            let lot = lot(self.seed, place as u64, order.met);
            if first.is_none() && order.fault.times.include(order.met) && lot < order.fault.share {
                order.done += 1;
                first = Some(place);
            }
        }
        first
    }
}

/// A number below [`ALWAYS`].
fn lot(seed: u64, place: u64, occasion: u64) -> u32 {
    u32::try_from(mixed(seed, place, occasion) % u64::from(ALWAYS)).unwrap_or(0)
}

/// The mixing of SplitMix64, whose bits are as good as any for lots.
pub(super) fn mixed(seed: u64, place: u64, occasion: u64) -> u64 {
    let golden = 0x9e37_79b9_7f4a_7c15_u64;
    let mut z = seed
        .wrapping_add(place.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(occasion.wrapping_mul(golden));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(seed: u64, orders: &[&str]) -> Faults {
        Faults::new(seed, orders.iter().map(|order| order.parse().unwrap()))
    }

    fn drawn(faults: &mut Faults, stage: Stage, number: usize) -> String {
        let lots = (0..number).map(|_| match faults.draw(stage, "bob@a.example") {
            None => '.',
            Some(Deed::Drop) => 'D',
            Some(Deed::Reset) => 'R',
            Some(_) => '?',
        });
        lots.collect()
    }

    #[test]
    fn an_order_holds_the_times_that_it_names() {
        let mut faults = faults(1, &["dot#2=drop", "dot#4-5=reset", "mail=drop"]);
        assert_eq!(drawn(&mut faults, Stage::Dot, 7), ".D.RR..");
        assert_eq!(drawn(&mut faults, Stage::Mail, 2), "DD");
        assert_eq!(drawn(&mut faults, Stage::Rset, 1), ".");
        let done: Vec<_> = faults
            .orders()
            .iter()
            .map(|order| (order.met, order.done))
            .collect();
        assert_eq!(done, [(7, 1), (7, 2), (2, 2)]);
    }

    #[test]
    fn the_first_order_whose_turn_it_is_holds() {
        assert_eq!(
            drawn(
                &mut faults(1, &["rcpt[alice@*]=reset", "rcpt[bob@*]#1=drop", "rcpt=reset"]),
                Stage::Rcpt,
                2
            ),
            "DR"
        );
    }

    #[test]
    fn a_percentage_is_met_in_the_long_run_and_repeated_by_its_seed() {
        let run = |seed| drawn(&mut faults(seed, &["dot=drop@25"]), Stage::Dot, 4000);
        let dropped = run(7).matches('D').count();
        assert!((900..1100).contains(&dropped), "{dropped}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        assert_eq!(
            drawn(&mut faults(7, &["dot=drop@0"]), Stage::Dot, 100)
                .matches('D')
                .count(),
            0
        );
    }

    #[test]
    fn two_orders_of_one_percentage_draw_lots_of_their_own() {
        let lots = drawn(&mut faults(7, &["dot=drop@50", "dot=reset@50"]), Stage::Dot, 1000);
        let (dropped, reset) = (lots.matches('D').count(), lots.matches('R').count());
        assert!(
            (400..600).contains(&dropped) && (180..320).contains(&reset),
            "{dropped} {reset}"
        );
    }

    #[test]
    fn an_early_reply_comes_with_the_one_before_it_and_with_no_other() {
        let mut faults = faults(1, &["mail=early", "dot=early@0"]);
        assert_eq!(faults.draw_early(Stage::Ehlo), [Stage::Mail]);
        assert_eq!(faults.draw(Stage::Mail, ""), None);
        assert_eq!(faults.draw_early(Stage::Data), []);
    }
}
