//! Messages that wait in memory for room in the window: by priority, then by age; bounded by number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use hookline_schemas::Message;
use smallvec::SmallVec;

use crate::router::Lease;

/// A message that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) message: Arc<Message>,
    pub(crate) flags: u8,
    pub(crate) identifiers: SmallVec<[u32; 2]>,
    /// It came by a shared subscription.
    pub(crate) lease: Option<Lease>,
}

/// The queue. Empty costs no allocation; most have one level.
#[derive(Debug, Default)]
pub(crate) struct Mqueue {
    /// The highest priority first.
    levels: Vec<(u16, VecDeque<Waiting>)>,
    bytes: usize,
}

/// Places that a queue keeps when it is empty.
const KEPT: usize = 8;

impl Mqueue {
    /// Adds a message; what had to make room comes back: the oldest of its level, then of the lowest level.
    pub(crate) fn push(&mut self, waiting: Waiting, priority: u16, count_max: usize, bytes_max: usize) -> SmallVec<[Waiting; 1]> {
        let place = self.levels.partition_point(|(other, _)| *other > priority);
        if self.levels.get(place).is_none_or(|(other, _)| *other != priority) {
            self.levels.insert(place, (priority, VecDeque::new()));
        }
        self.bytes += size(&waiting);
        let level = &mut self.levels[place].1;
        level.push_back(waiting);
        let mut dropped = SmallVec::new();
        if level.len() > count_max {
            dropped.extend(level.pop_front());
        }
        self.bytes -= dropped.iter().map(size).sum::<usize>();
        while self.bytes > bytes_max {
            let Some(oldest) = self.levels.iter_mut().rev().find_map(|(_, level)| level.pop_front()) else { break };
            self.bytes -= size(&oldest);
            dropped.push(oldest);
        }
        dropped
    }

    /// Takes the next message.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let next = self.levels.iter_mut().find_map(|(_, level)| level.pop_front())?;
        self.bytes -= size(&next);
        if self.levels.iter().all(|(_, level)| level.is_empty())
            && self.levels.iter().map(|(_, level)| level.capacity()).sum::<usize>() > KEPT
        {
            // An idle session keeps little memory for what waited once.
            self.levels = Vec::new();
        }
        Some(next)
    }

    /// Those that wait, the next one first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.levels.iter().flat_map(|(_, level)| level)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.levels.iter().map(|(_, level)| level.len()).sum()
    }
}

fn size(waiting: &Waiting) -> usize {
    waiting.message.payload.len() + waiting.message.topic.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(text: &str) -> Waiting {
        let mut message = Message::internal("t", "");
        message.payload = text.to_owned().into();
        Waiting { message: Arc::new(message), flags: 0, identifiers: SmallVec::new(), lease: None }
    }

    fn texts(queue: &mut Mqueue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|waiting| String::from_utf8_lossy(&waiting.message.payload).into_owned()).collect()
    }

    #[test]
    fn higher_priorities_go_first_and_each_level_is_bounded() {
        let mut queue = Mqueue::default();
        let mut dropped = Vec::new();
        for (text, priority) in [("a", 1), ("b", 5), ("c", 1), ("d", 5), ("e", 1)] {
            let out = queue.push(waiting(text), priority, 2, 1000);
            dropped.extend(out.iter().map(|waiting| waiting.message.payload.clone()));
        }
        assert_eq!(dropped, ["a"]);
        assert_eq!((queue.len(), texts(&mut queue)), (4, ["b", "d", "c", "e"].map(str::to_owned).to_vec()));
        assert_eq!(queue.bytes, 0);
        (0..100).for_each(|_| drop(queue.push(waiting("x"), 0, 1000, 1000)));
        assert_eq!((texts(&mut queue).len(), queue.levels.capacity()), (100, 0), "its memory goes back");
    }

    #[test]
    fn bytes_are_bounded_from_the_lowest_priority_up() {
        let mut queue = Mqueue::default();
        queue.push(waiting("low"), 0, 10, 10);
        queue.push(waiting("high"), 9, 10, 10);
        let dropped = queue.push(waiting("more"), 9, 10, 10);
        assert_eq!(dropped.len(), 1);
        assert_eq!(texts(&mut queue), ["high", "more"]);
    }
}
