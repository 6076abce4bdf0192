//! The positions of the records that wait in a queue: eight bytes each, in pieces, so that a long queue needs no spare room.

use std::collections::VecDeque;

use super::chunk::Position;

/// Positions of one piece. Only the last piece may have fewer, and room for more.
const PIECE: usize = 1024;
/// Stands where a record is settled; no chunk has this number.
pub(super) const SETTLED: u64 = 0;

/// Positions in the order of arrival. Those that are settled leave a hole, and go with the front.
#[derive(Debug, Default)]
pub(super) struct Index {
    pieces: VecDeque<Vec<u64>>,
    /// Positions of the first piece that are gone.
    skip: usize,
    len: usize,
    holes: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position at a place; `None`: it is settled, or behind the end.
    pub(super) fn get(&self, place: usize) -> Option<Position> {
        if place >= self.len {
            return None;
        }
        let at = self.skip + place;
        Some(self.pieces[at / PIECE][at % PIECE]).filter(|position| *position != SETTLED).map(Position)
    }

    /// Whether the record at a place of the queue is settled.
    pub(super) fn is_hole(&self, place: usize) -> bool {
        place < self.len && self.get(place).is_none()
    }

    pub(super) fn push(&mut self, position: Option<Position>) {
        if self.pieces.back().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push_back(Vec::new());
        }
        let Some(piece) = self.pieces.back_mut() else { return };
        if piece.len() == piece.capacity() {
            // A quarter at a time: most queues are short, and there are many.
            piece.reserve_exact((piece.len() / 4).clamp(4, PIECE - piece.len()));
        }
        piece.push(position.map_or(SETTLED, |position| position.0));
        self.holes += usize::from(position.is_none());
        self.len += 1;
    }

    /// Takes the last one back.
    pub(super) fn pop(&mut self) -> Option<Position> {
        let last = self.len.checked_sub(1)?;
        let position = self.get(last);
        self.pieces.back_mut()?.pop();
        self.holes -= usize::from(position.is_none());
        self.len = last;
        if self.pieces.back().is_some_and(Vec::is_empty) {
            self.pieces.pop_back();
        }
        if self.len == 0 {
            self.clear();
        }
        position
    }

    /// Puts a position at a place, which must be there; what was there before.
    pub(super) fn set(&mut self, place: usize, position: Option<Position>) -> Option<Position> {
        let before = self.get(place);
        if place < self.len {
            let at = self.skip + place;
            self.pieces[at / PIECE][at % PIECE] = position.map_or(SETTLED, |position| position.0);
            self.holes = self.holes + usize::from(position.is_none()) - usize::from(before.is_none());
        }
        before
    }

    /// Removes the settled ones at the front; how many.
    pub(super) fn trim(&mut self) -> u64 {
        let mut removed = 0;
        while self.is_hole(0) {
            self.skip += 1;
            self.len -= 1;
            self.holes -= 1;
            removed += 1;
            if self.skip == PIECE {
                self.pieces.pop_front();
                self.skip = 0;
            }
        }
        if self.len == 0 {
            self.clear();
        }
        removed
    }

    pub(super) fn clear(&mut self) {
        *self = Index::default();
    }

    /// All from a place on, holes as `None`.
    pub(super) fn iter_from(&self, place: usize) -> impl Iterator<Item = Option<Position>> {
        (place..self.len).map(|place| self.get(place))
    }

    /// The places that are settled. They are near the front, and the search ends with the last one.
    pub(super) fn holes(&self) -> impl Iterator<Item = usize> {
        (0..self.len).filter(|place| self.is_hole(*place)).take(self.holes)
    }

    /// All that are not settled, the last one first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Position> {
        (0..self.len).rev().filter_map(|place| self.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(n: u64) -> Position {
        Position(n + 1)
    }

    #[test]
    fn it_is_a_list_that_shrinks_at_both_ends() {
        let mut index = Index::default();
        let mut model: VecDeque<Option<u64>> = VecDeque::new();
        let mut random = 7u64;
        for n in 0..200_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match random >> 60 {
                0..=8 => {
                    index.push(Some(position(n)));
                    model.push_back(Some(n));
                }
                9 => {
                    let popped = model.pop_back();
                    assert_eq!(index.pop(), popped.flatten().map(position));
                }
                _ if !model.is_empty() => {
                    let place = (random >> 20) as usize % model.len().min(40);
                    assert_eq!(index.set(place, None), std::mem::take(&mut model[place]).map(position));
                    let mut removed = 0;
                    while model.front() == Some(&None) {
                        model.pop_front();
                        removed += 1;
                    }
                    assert_eq!(index.trim(), removed);
                }
                _ => {}
            }
            assert_eq!((index.len(), index.holes), (model.len(), model.iter().filter(|n| n.is_none()).count()));
            if n % 1000 == 0 {
                assert!(index.iter_from(0).eq(model.iter().map(|n| n.map(position))));
                assert!(index.newest_first().eq(model.iter().rev().flatten().map(|n| position(*n))));
            }
        }
    }

    #[test]
    fn a_million_records_cost_eight_bytes_each() {
        let mut index = Index::default();
        (0..1_000_000).for_each(|n| index.push(Some(position(n))));
        let bytes: usize = index.pieces.iter().map(|piece| piece.capacity() * 8 + size_of::<Vec<u64>>()).sum();
        assert!(bytes < 8_200_000, "{bytes}");
        (0..1_000_000).for_each(|place| assert!(index.set(place, None).is_some()));
        assert_eq!((index.trim(), index.pieces.capacity()), (1_000_000, 0), "its memory goes back");
    }
}
