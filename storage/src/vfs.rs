//! SQLite's unix file system with a simulated disk in between: the only unsafe code of the product's tests.
#![expect(
    unsafe_code,
    reason = "a virtual file system of SQLite is a C interface"
)]
use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_MAIN_DB,
    SQLITE_OPEN_MAIN_JOURNAL, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find, sqlite3_vfs_register,
};
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::Arc,
};

/// The files whose loss matters.
const TRACKED: c_int = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL;

/// What a step on the disk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is done.
    Done,
    /// `SQLITE_FULL`: ENOSPC.
    Full,
    /// `SQLITE_IOERR_…`: EIO, EROFS, or the power is off.
    Failed,
}

/// What a simulated disk says to what is done to a file on it. What it lets pass is done to the real file; an fsync never
/// is: what is durable is what the simulation says, and tests are many.
pub(crate) trait File: Send + Sync {
    /// Bytes are written. `grows` says whether the real file would become longer.
    fn write(&self, at: usize, bytes: &[u8], grows: &dyn Fn() -> bool) -> Verdict;
    /// The file gets this length, in bytes.
    fn truncate(&self, size: usize) -> Verdict;
    /// What was written is to last.
    fn sync(&self) -> Verdict;
}

/// Simulated disks.
pub(crate) trait Disks: Send + Sync {
    /// The file of that name, if it lies on one of them and its loss matters.
    fn open(&self, name: &str) -> Option<Arc<dyn File>>;
    /// The file of that name goes.
    fn delete(&self, name: &str) -> Verdict;
}

/// What SQLite allocates for a file: this, then the unix file.
#[repr(C)]
struct FaultFile {
    methods: *const sqlite3_io_methods,
    /// None for files that are on no simulated disk.
    file: Option<Arc<dyn File>>,
}

/// The file system's own data.
struct Base {
    unix: *mut sqlite3_vfs,
    disks: &'static dyn Disks,
}

/// Registers a file system of that name; `as_default` for everything that is opened without naming one. It stays for the
/// life of the process.
///
/// # Panics
/// When SQLite does not take it.
pub(crate) fn register(name: &'static str, disks: &'static dyn Disks, as_default: bool) {
    let c_name = CString::new(name).unwrap().into_raw();
    // SAFETY: the unix file system is there for the life of the process; the copy and its data are leaked, and its
    // functions get the unix file system wherever they look at it.
    unsafe {
        let unix = sqlite3_vfs_find(c"unix".as_ptr());
        let base = Box::leak(Box::new(Base { unix, disks }));
        let mut vfs = *unix;
        vfs.szOsFile += size_of::<FaultFile>() as c_int;
        vfs.zName = c_name;
        vfs.pNext = ptr::null_mut();
        vfs.pAppData = ptr::from_mut(base).cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        let registered = sqlite3_vfs_register(Box::leak(Box::new(vfs)), as_default.into());
        assert_eq!(registered, SQLITE_OK);
    }
}

unsafe fn base(vfs: *mut sqlite3_vfs) -> &'static Base {
    // SAFETY: set by `register` and never freed.
    unsafe { &*(*vfs).pAppData.cast::<Base>() }
}

/// The unix file behind ours.
unsafe fn unix(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite allocated `szOsFile` bytes, so the unix file lies right behind.
    unsafe { file.cast::<u8>().add(size_of::<FaultFile>()).cast() }
}

unsafe fn ours(file: *mut sqlite3_file) -> &'static FaultFile {
    // SAFETY: only files that `open` made get here.
    unsafe { &*file.cast::<FaultFile>() }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: the arguments are SQLite's, handed on as they are.
    unsafe {
        let base = base(vfs);
        let tracked = flags & TRACKED != 0 && !name.is_null();
        let simulated = tracked.then(|| CStr::from_ptr(name).to_string_lossy());
        let simulated = simulated.and_then(|name| base.disks.open(&name));
        let real = unix(file);
        (*real).pMethods = ptr::null();
        let code = (*base.unix).xOpen.unwrap()(base.unix, name, real, flags, out);
        // On failure SQLite does not close what has no methods.
        let failed = (*real).pMethods.is_null();
        file.cast::<FaultFile>().write(FaultFile {
            methods: if failed { ptr::null() } else { &METHODS },
            file: if failed { None } else { simulated },
        });
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let base = base(vfs);
        if base.disks.delete(&CStr::from_ptr(name).to_string_lossy()) != Verdict::Done {
            return SQLITE_IOERR_WRITE;
        }
        (*base.unix).xDelete.unwrap()(base.unix, name, sync)
    }
}

unsafe extern "C" fn access(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let unix = base(vfs).unix;
        (*unix).xAccess.unwrap()(unix, name, flags, out)
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut sqlite3_vfs,
    name: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let unix = base(vfs).unix;
        (*unix).xFullPathname.unwrap()(unix, name, size, out)
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once and does not use it afterwards.
    unsafe {
        let real = unix(file);
        let code = (*(*real).pMethods).xClose.unwrap()(real);
        ptr::drop_in_place(file.cast::<FaultFile>());
        code
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: i64,
) -> c_int {
    // SAFETY: SQLite hands over `count` bytes.
    unsafe {
        let real = unix(file);
        if let Some(simulated) = &ours(file).file {
            let written = std::slice::from_raw_parts(bytes.cast::<u8>(), count as usize);
            let grows = || {
                let mut size = 0;
                let code = (*(*real).pMethods).xFileSize.unwrap()(real, &raw mut size);
                code != SQLITE_OK || at + i64::from(count) > size
            };
            match simulated.write(at as usize, written, &grows) {
                Verdict::Done => {}
                Verdict::Full => return SQLITE_FULL,
                Verdict::Failed => return SQLITE_IOERR_WRITE,
            }
        }
        (*(*real).pMethods).xWrite.unwrap()(real, bytes, count, at)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: i64) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let simulated = ours(file).file.as_ref();
        if simulated.is_some_and(|it| it.truncate(size as usize) != Verdict::Done) {
            return SQLITE_IOERR_WRITE;
        }
        let real = unix(file);
        (*(*real).pMethods).xTruncate.unwrap()(real, size)
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        match &ours(file).file {
            Some(simulated) if simulated.sync() == Verdict::Done => SQLITE_OK,
            Some(_) => SQLITE_IOERR_FSYNC,
            None => {
                let real = unix(file);
                (*(*real).pMethods).xSync.unwrap()(real, flags)
            }
        }
    }
}

/// Handed on to the unix file.
macro_rules! handed_on {
    ($($name:ident = $method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> $result {
            // SAFETY: the arguments are SQLite's, handed on as they are.
            unsafe {
                let real = unix(file);
                (*(*real).pMethods).$method.unwrap()(real $(, $argument)*)
            }
        }
    )*};
}

handed_on! {
    read = xRead(to: *mut c_void, count: c_int, at: i64) -> c_int;
    file_size = xFileSize(size: *mut i64) -> c_int;
    lock = xLock(level: c_int) -> c_int;
    unlock = xUnlock(level: c_int) -> c_int;
    check_reserved_lock = xCheckReservedLock(out: *mut c_int) -> c_int;
    file_control = xFileControl(op: c_int, argument: *mut c_void) -> c_int;
    sector_size = xSectorSize() -> c_int;
    device_characteristics = xDeviceCharacteristics() -> c_int;
    shm_map = xShmMap(page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int;
    shm_lock = xShmLock(offset: c_int, count: c_int, flags: c_int) -> c_int;
    shm_barrier = xShmBarrier() -> ();
    shm_unmap = xShmUnmap(delete: c_int) -> c_int;
}

/// Version 2: with shared memory, without mapped files, whose writes nobody would see.
static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
