//! What most of those who might have it have not: it takes memory only where it is there.

/// A value that begins empty and mostly stays so; a pointer until then.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Seldom(None)
    }
}

impl<T> Seldom<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// Gives its memory back.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl<T: Default> Seldom<T> {
    /// Makes it where it is not there yet.
    pub(crate) fn make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// What is there, or an empty one; nothing is left.
    pub(crate) fn take(&mut self) -> T {
        self.0.take().map(|value| *value).unwrap_or_default()
    }
}
