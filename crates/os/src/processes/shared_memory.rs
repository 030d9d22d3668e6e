//! Memory that a process and its children have in common.

use std::{
    fmt, io,
    ops::Deref,
    ptr::{self, NonNull},
};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Values that stay in common after a fork. For atomics: anything else would be a copy, or a race.
pub(crate) struct Common<T> {
    first: NonNull<T>,
    count: usize,
}

// SAFETY: it is a slice of `T` in memory that lives as long as it does.
unsafe impl<T: Sync + Send> Send for Common<T> {}
// SAFETY: as above; it only lends `&T`.
unsafe impl<T: Sync + Send> Sync for Common<T> {}

impl<T: Default> Common<T> {
    /// `count` values, each its default.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        let bytes = count.checked_mul(size_of::<T>()).filter(|&bytes| bytes > 0);
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses where; nothing that exists is touched.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::SHARED) }?;
        let first = NonNull::new(page.cast::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        for number in 0..count {
            // SAFETY: the mapping has room for `count` values, is aligned to a page, and is ours alone so far.
            unsafe { first.add(number).write(T::default()) };
        }
        Ok(Self { first, count })
    }
}

impl<T: fmt::Debug> fmt::Debug for Common<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T> Deref for Common<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `count` values were written there, and are changed through shared references only.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

impl<T> Drop for Common<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, of this size, and nothing lends from it any more.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}
