/* Does as a bad disk would with regular files, as long as the file that TENMINT_TEST_DISK names is there. What that
 * holds says how: `read-only` fails writing and opening to write with EROFS, `full` writing with ENOSPC, `unsynced`
 * syncing with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* The first letter of what is wrong with the disk, or none. */
static char trouble(void) {
    const char *flag = getenv("TENMINT_TEST_DISK");
    char letter = 0;
    int fd = flag ? (int)syscall(SYS_openat, AT_FDCWD, flag, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (fd < 0) {
        return 0;
    }
    if (read(fd, &letter, 1) < 1) {
        letter = 0;
    }
    close(fd);
    return letter;
}

static int is_regular(int fd) {
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
}

static int fails(int error) {
    errno = error;
    return 1;
}

static int is_not_written(int fd) {
    char letter = trouble();
    if ((letter != 'r' && letter != 'f') || !is_regular(fd)) {
        return 0;
    }
    return fails(letter == 'r' ? EROFS : ENOSPC);
}

static int is_not_cut(int fd) {
    return trouble() == 'r' && is_regular(fd) && fails(EROFS);
}

static int is_not_synced(int fd) {
    return trouble() == 'u' && is_regular(fd) && fails(EIO);
}

static int is_not_opened(const char *path, int flags) {
    struct stat file;
    if ((flags & O_ACCMODE) == O_RDONLY || trouble() != 'r' || stat(path, &file) != 0 || !S_ISREG(file.st_mode)) {
        return 0;
    }
    return fails(EROFS);
}

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))
typedef ssize_t (*write_fn)(int, const void *, size_t);
typedef ssize_t (*pwrite_fn)(int, const void *, size_t, off64_t);
typedef int (*truncate_fn)(int, off64_t);
typedef int (*sync_fn)(int);
typedef int (*open_fn)(const char *, int, mode_t);

static int open_by(const char *name, const char *path, int flags, mode_t mode) {
    return is_not_opened(path, flags) ? -1 : REAL(open_fn, name)(path, flags, mode);
}

#define OPEN(name)                                            \
    int name(const char *path, int flags, ...) {              \
        va_list rest;                                         \
        va_start(rest, flags);                                \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                         \
        return open_by(#name, path, flags, mode);             \
    }

OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t length) {
    return is_not_written(fd) ? -1 : REAL(write_fn, "write")(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return is_not_written(fd) ? -1 : REAL(pwrite_fn, "pwrite")(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    return is_not_written(fd) ? -1 : REAL(pwrite_fn, "pwrite64")(fd, bytes, length, at);
}

int ftruncate(int fd, off_t length) {
    return is_not_cut(fd) ? -1 : REAL(truncate_fn, "ftruncate")(fd, length);
}

int ftruncate64(int fd, off64_t length) {
    return is_not_cut(fd) ? -1 : REAL(truncate_fn, "ftruncate64")(fd, length);
}

int fsync(int fd) {
    return is_not_synced(fd) ? -1 : REAL(sync_fn, "fsync")(fd);
}

int fdatasync(int fd) {
    return is_not_synced(fd) ? -1 : REAL(sync_fn, "fdatasync")(fd);
}
