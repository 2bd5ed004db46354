//! Acknowledgements: one for all deliveries up to the last where each of them is dealt with, one for each where something before it is still
//! in hand. Knows nothing of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use tokio::sync::mpsc;

use super::Shared;
use super::consume::InHand;

/// Deliveries that are acknowledged at a time.
const AT_A_TIME: usize = 1_024;

/// A delivery that is dealt with.
#[derive(Debug)]
pub(super) struct Due {
    /// Its number on the channel.
    pub(super) tag: u64,
    /// `None` where the broker waits for no acknowledgement.
    pub(super) in_hand: Option<InHand>,
}

/// Acknowledges what is due for as long as anything may come. What waits is bounded by the prefetch.
///
/// # Errors
/// The channel is gone.
pub(super) async fn acknowledge(
    shared: Arc<Shared>,
    channel: Channel,
    mut due: mpsc::UnboundedReceiver<Due>,
) -> anyhow::Result<()> {
    let mut settled = Settled::default();
    let mut batch = Vec::with_capacity(AT_A_TIME);
    while due.recv_many(&mut batch, AT_A_TIME).await > 0 {
        // A shard that is through with one event is through with those of the same tick in a moment; no client waits for this.
        tokio::task::yield_now().await;
        while batch.len() < AT_A_TIME
            && let Ok(next) = due.try_recv()
        {
            batch.push(next);
        }
        batch.sort_unstable_by_key(|due| due.tag);
        let (mut up_to, mut alone) = (None, Vec::new());
        for Due { tag, in_hand } in &batch {
            let follows_on = settled.add(*tag);
            if in_hand.is_some() {
                if follows_on { up_to = Some(*tag) } else { alone.push(*tag) }
            }
        }
        let up_to = up_to.map(|tag| channel.basic_ack(tag, BasicAckOptions { multiple: true }));
        let alone = alone.into_iter().map(|tag| channel.basic_ack(tag, BasicAckOptions { multiple: false }));
        try_join_all(up_to.into_iter().chain(alone)).await.context("cannot acknowledge deliveries")?;
        let acked = batch.iter().filter(|due| due.in_hand.is_some()).count();
        shared.wiring.metrics.rabbitmq_acked.inc_by(acked as u64);
        batch.clear();
    }
    Ok(())
}

/// Which deliveries of a channel are dealt with. The broker numbers them from 1, without a gap.
#[derive(Debug, Default)]
struct Settled {
    /// All up to this one are.
    through: u64,
    /// Those beyond it: the first and the last of each run. Between two runs something is in hand, so that the prefetch bounds them.
    beyond: BTreeMap<u64, u64>,
}

impl Settled {
    /// One more is dealt with, which was not before. Returns whether all before it are, too.
    fn add(&mut self, tag: u64) -> bool {
        if tag == self.through + 1 {
            self.through = self.beyond.remove(&(tag + 1)).unwrap_or(tag);
            return true;
        }
        let last = self.beyond.remove(&(tag + 1)).unwrap_or(tag);
        match self.beyond.range_mut(..tag).next_back() {
            Some((_, end)) if *end + 1 == tag => *end = last,
            Some(_) | None => {
                self.beyond.insert(tag, last);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_delivery_in_hand_holds_back_what_is_beyond_it() {
        let mut settled = Settled::default();
        let follows_on: Vec<bool> = [1, 2, 5, 4, 7, 3, 8, 6, 9].into_iter().map(|tag| settled.add(tag)).collect();
        assert_eq!(follows_on, [true, true, false, false, false, true, false, true, true]);
        assert_eq!((settled.through, settled.beyond.len()), (9, 0));
    }

    #[test]
    fn one_that_stays_in_hand_costs_one_run() {
        let mut settled = Settled::default();
        assert!((2..100_000).all(|tag| !settled.add(tag)));
        assert_eq!(settled.beyond.len(), 1);
        assert!(settled.add(1));
        assert_eq!(settled.through, 99_999);
    }

    proptest! {
        #[test]
        fn whatever_the_order_all_before_are_dealt_with_when_it_says_so(order in Just((1..=60).collect::<Vec<u64>>()).prop_shuffle()) {
            let mut settled = Settled::default();
            for (index, tag) in order.iter().enumerate() {
                let all_before = (1..*tag).all(|before| order[..index].contains(&before));
                prop_assert_eq!(settled.add(*tag), all_before);
            }
            prop_assert_eq!(settled.through, 60);
        }
    }
}
