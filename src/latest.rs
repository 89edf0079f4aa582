//! What may be replaced while others work with it: each takes the latest when it begins something, and keeps it until
//! that is done.

use std::sync::Arc;

use parking_lot::RwLock;

/// A value that is replaced as a whole. Clones are the same place.
#[derive(Debug)]
pub struct Latest<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Latest<T> {
        Latest(Arc::clone(&self.0))
    }
}

impl<T> Latest<T> {
    /// A place with this value in it.
    #[must_use]
    pub fn new(value: Arc<T>) -> Latest<T> {
        Latest(Arc::new(RwLock::new(value)))
    }

    /// The value as it is now.
    #[must_use]
    pub fn take(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Puts another value in its place.
    pub fn replace(&self, value: Arc<T>) {
        *self.0.write() = value;
    }
}
