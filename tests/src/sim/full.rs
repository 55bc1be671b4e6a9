//! A disk that can be full: SQLite's unix file system, in which files below a simulated disk do not grow while it has no
//! room. Every other file of the process is SQLite's own business.
#![expect(
    unsafe_code,
    reason = "a virtual file system of SQLite is a C interface"
)]
use parking_lot::Mutex;
use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_OK, sqlite3_file, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find,
    sqlite3_vfs_register,
};
use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    path::{Path, PathBuf},
    ptr,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether each simulated disk is full, by its folder.
static DISKS: Mutex<Option<HashMap<PathBuf, Arc<AtomicBool>>>> = Mutex::new(None);

/// A simulated disk's room, while it is held.
pub struct Room {
    folder: PathBuf,
    full: Arc<AtomicBool>,
}

impl Room {
    /// The room of all files below a folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(register);
        let full = Arc::new(AtomicBool::new(false));
        let mut disks = DISKS.lock();
        let disks = disks.get_or_insert_default();
        disks.insert(folder.into(), full.clone());
        Self {
            folder: folder.into(),
            full,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Takes or gives room.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(disks) = DISKS.lock().as_mut() {
            disks.remove(&self.folder);
        }
    }
}

fn room_of(name: &Path) -> Option<Arc<AtomicBool>> {
    let disks = DISKS.lock();
    let disks = disks.as_ref()?;
    name.ancestors()
        .find_map(|folder| disks.get(folder))
        .cloned()
}

/// What SQLite allocates for a file of a simulated disk: this, then the unix file.
#[repr(C)]
struct SimFile {
    methods: *const sqlite3_io_methods,
    full: Arc<AtomicBool>,
}

/// Makes this the file system that SQLite opens files with, for the life of the process.
fn register() {
    // SAFETY: the unix file system is there for the life of the process; the copy is leaked, and its functions get the
    // unix file system, which is its data, wherever they look at it.
    unsafe {
        let unix = sqlite3_vfs_find(ptr::null());
        let mut vfs = *unix;
        vfs.szOsFile += size_of::<SimFile>() as c_int;
        vfs.zName = c"medmesh-sim".as_ptr();
        vfs.pNext = ptr::null_mut();
        vfs.pAppData = unix.cast();
        vfs.xOpen = Some(open);
        vfs.xDelete = Some(delete);
        vfs.xAccess = Some(access);
        vfs.xFullPathname = Some(full_pathname);
        assert_eq!(sqlite3_vfs_register(Box::leak(Box::new(vfs)), 1), SQLITE_OK);
    }
}

unsafe fn system(vfs: *mut sqlite3_vfs) -> *mut sqlite3_vfs {
    // SAFETY: set by `register`.
    unsafe { (*vfs).pAppData.cast() }
}

/// The unix file behind ours.
unsafe fn unix(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: SQLite allocated `szOsFile` bytes, so the unix file lies right behind.
    unsafe { file.cast::<u8>().add(size_of::<SimFile>()).cast() }
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
        let system = system(vfs);
        let Some(open) = (*system).xOpen else {
            return SQLITE_FULL;
        };
        let path = (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy());
        let Some(full) = path.and_then(|path| room_of(Path::new(&*path))) else {
            // Not of a simulated disk: the unix file takes the place of ours.
            return open(system, name, file, flags, out);
        };
        let real = unix(file);
        (*real).pMethods = ptr::null();
        let code = open(system, name, real, flags, out);
        if (*real).pMethods.is_null() {
            // On failure SQLite does not close what has no methods.
            (*file).pMethods = ptr::null();
        } else {
            let methods = &raw const METHODS;
            file.cast::<SimFile>().write(SimFile { methods, full });
        }
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let system = system(vfs);
        (*system)
            .xDelete
            .map_or(SQLITE_OK, |delete| delete(system, name, sync))
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
        let system = system(vfs);
        (*system)
            .xAccess
            .map_or(SQLITE_OK, |access| access(system, name, flags, out))
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
        let system = system(vfs);
        (*system)
            .xFullPathname
            .map_or(SQLITE_OK, |full| full(system, name, size, out))
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once and does not use it afterwards.
    unsafe {
        let real = unix(file);
        let close = (*(*real).pMethods).xClose;
        let code = close.map_or(SQLITE_OK, |close| close(real));
        ptr::drop_in_place(file.cast::<SimFile>());
        code
    }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    count: c_int,
    at: i64,
) -> c_int {
    // SAFETY: as in `open`.
    unsafe {
        let real = unix(file);
        let methods = &*(*real).pMethods;
        if (*file.cast::<SimFile>()).full.load(Ordering::SeqCst) {
            let mut size = 0;
            let known = methods
                .xFileSize
                .map_or(SQLITE_FULL, |it| it(real, &raw mut size));
            if known != SQLITE_OK || at + i64::from(count) > size {
                return SQLITE_FULL;
            }
        }
        methods
            .xWrite
            .map_or(SQLITE_FULL, |write| write(real, bytes, count, at))
    }
}

/// Handed on to the unix file.
macro_rules! handed_on {
    ($($name:ident = $method:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {$(
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> $result {
            // SAFETY: the arguments are SQLite's, handed on as they are; a unix file has every method.
            unsafe {
                let real = unix(file);
                ((*(*real).pMethods).$method.unwrap_unchecked())(real $(, $argument)*)
            }
        }
    )*};
}

handed_on! {
    read = xRead(to: *mut c_void, count: c_int, at: i64) -> c_int;
    truncate = xTruncate(size: i64) -> c_int;
    sync = xSync(flags: c_int) -> c_int;
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
