//! A table whose places are reused. A key names a place and a generation, so that a stale key finds nothing.

/// A place in a [`Slab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// Both parts in one number, for epoll.
    pub(crate) fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_u64(number: u64) -> Key {
        Key { index: number as u32, generation: (number >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

/// Places that are allocated together: so growth moves nothing, and costs no more than what it adds.
const CHUNK: usize = 64;

/// The table.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    /// All but the last are full.
    chunks: Vec<Vec<Place<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts a value in; `make` is told its key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| self.add_place());
        let place = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        let key = Key { index, generation: place.generation };
        place.value = Some(make(key));
        key
    }

    fn add_place(&mut self) -> u32 {
        let index = self.places();
        if index.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[index / CHUNK].push(Place { generation: 0, value: None });
        index as u32
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let place = self.chunks.get(key.index as usize / CHUNK)?.get(key.index as usize % CHUNK)?;
        if place.generation == key.generation { place.value.as_ref() } else { None }
    }

    fn place_mut(&mut self, key: Key) -> Option<&mut Place<T>> {
        let place = self.chunks.get_mut(key.index as usize / CHUNK)?.get_mut(key.index as usize % CHUNK)?;
        (place.generation == key.generation).then_some(place)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.place_mut(key)?.value.as_mut()
    }

    /// Takes a value out; its key finds nothing from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.place_mut(key)?;
        let value = place.value.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(value)
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.places() - self.free.len()
    }

    /// The values in `count` places from the place `from` on, with their keys; for who looks at all of them, some at a time.
    pub(crate) fn part(&self, from: usize, count: usize) -> impl Iterator<Item = (Key, &T)> {
        let indices = from..from.saturating_add(count).min(self.places());
        indices.filter_map(|index| {
            let place = &self.chunks[index / CHUNK][index % CHUNK];
            Some((Key { index: index as u32, generation: place.generation }, place.value.as_ref()?))
        })
    }

    /// How many places there are, with a value or without.
    pub(crate) fn places(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// The keys of all values.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.part(0, usize::MAX).map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slab = Slab::default();
        let first = slab.insert_with(|_| "a");
        assert_eq!(slab.remove(first), Some("a"));
        let second = slab.insert_with(|_| "b");
        assert_eq!(second.index, first.index);
        assert_eq!((slab.get(first), slab.get(second)), (None, Some(&"b")));
        assert_eq!(Key::from_u64(second.to_u64()), second);
    }

    #[test]
    fn many_chunks_are_one_table() {
        let mut slab = Slab::default();
        let keys: Vec<Key> = (0..3 * CHUNK + 5).map(|number| slab.insert_with(|_| number)).collect();
        assert!(keys.iter().enumerate().all(|(number, key)| slab.get(*key) == Some(&number)));
        slab.remove(keys[CHUNK]);
        assert_eq!((slab.len(), slab.places()), (keys.len() - 1, keys.len()));
        let part: Vec<usize> = slab.part(CHUNK - 1, 3).map(|(_, number)| *number).collect();
        assert_eq!(part, [CHUNK - 1, CHUNK + 1]);
        assert_eq!(slab.keys().len(), slab.len());
    }
}
